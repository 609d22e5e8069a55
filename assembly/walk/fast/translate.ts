/** One access through one address space, in one call. */
import { ACCESS_FETCH, ACCESS_PROBE, ACCESS_USER, ACCESS_WRITE } from "../../abi/bits";
import { MODE_32BIT, MODE_4LEVEL, STATUS_OK, WALK_TRACE } from "../../abi/codes";
import { Space } from "../../abi/records";
import { run } from "../space/run";
import { enterFast, lookUp } from "../tlb/tlb";
import { keepLine } from "../tlb/tlb-lines";
import { walkFast } from "./fast";
import { finishRefused } from "./refused";
import { HALF4_HIGH, quick32, quick4, wide } from "./single";

/** Accesses that the quick walks take: bits 4, 2 and 1 are a plan's index as they are. */
// @ts-ignore: decorator
@inline const QUICK: u32 = ACCESS_FETCH | ACCESS_USER | ACCESS_WRITE;

/**
 * Translates `high:low` for the ACCESS_* word `access`. Returns the physical address (at most 52 bits, exact), or
 * -1 - (status << 16 | error code).
 */
export function translate(space: Space, high: u32, low: u32, access: u32): f64 {
  const other = (access & ~QUICK) | (space.quick ^ MODE_4LEVEL) | ((high + HALF4_HIGH) >>> 16);
  return other == 0 ? quick4(space, high, low, access) : translateOtherwise(space, wide(high, low), access);
}

/** The same for a linear address of 32 bits. */
export function translate32(space: Space, low: u32, access: u32): f64 {
  if ((access & ~QUICK) | (space.quick ^ MODE_32BIT)) return translateOtherwise(space, low, access);
  return quick32(space, low, access);
}

function translateOtherwise(space: Space, address: u64, access: u32): f64 {
  if (((access & ~QUICK) | (space.quick ^ MODE_32BIT) | (<u32>(address >> 32))) == 0) {
    return translate32(space, <u32>address, access);
  }
  const tlb = space.tlb;
  if (tlb != 0) {
    const hit = lookUp(space, tlb, address, access);
    if (<i64>hit >= 0) {
      keepLine(space, address, access, hit);
      return <f64>(<i64>hit);
    }
  }
  const fast = walkFast(space, address, access);
  if (<i64>fast >= 0) {
    if (tlb != 0 && !(access & ACCESS_PROBE)) {
      enterFast(space, address, fast);
      keepLine(space, address, access, fast);
    }
    return <f64>(<i64>fast);
  }
  return finishRefused(space, address, access, fast);
}

/** The same as `translate`, always by the full walk, with the address in one piece; the details are in the Work record. */
export function translateWide(space: Space, address: u64, access: u32): f64 {
  const status = run(space, address, access, 0);
  const work = space.work;
  if (status == STATUS_OK) return <f64>(<i64>work.pa);
  return -1 - <f64>((status << 16) | ((<u32>work.code) & 0xffff));
}

/**
 * The same for people: every entry that is read goes into the trace, nothing is changed. Returns the status that
 * `translate` would give, so accesses that would set a bit are checked for that.
 */
export function explain(space: Space, address: u64, access: u32): u32 {
  const work = space.work;
  work.traceCount = 0;
  return run(space, address, access, WALK_TRACE);
}
