/** Accesses that a fast walk did not finish. */
import { ACCESS_PROBE } from "../../abi/bits";
import { STATUS_MISSING_PAGE, STATUS_OK, STATUS_PAGE_FAULT } from "../../abi/codes";
import { SPACE_TLB, SPACE_WORK, WORK_CODE, WORK_MISSING_ACCESS, WORK_MISSING_ADDRESS, WORK_PA } from "../../abi/layout";
import { guestCode } from "../access";
import { isNarrow } from "../linear";
import { NOT_FAST, NOT_PRESENT } from "../plan";
import { run } from "../space/run";
import { dropFaulted } from "../tlb/tlb";
import { BATCH_FAULT, reportedCode, walkExact } from "./exact";

/** A page has to be read first. No result looks like it: bit 63 comes with a status, and addresses have 52 bits. */
// @ts-ignore: decorator
@inline export const MISSING: u64 = 0xffffffffffffffff;

/** `walkOn` for single calls: what `translate` returns. */
export function finishRefused(space: usize, address: u64, access: u32, fast: u64): f64 {
  const result = walkOn(space, address, access, fast);
  if (<i64>result >= 0) return <f64>(<i64>result);
  if (result != MISSING && !(address >> 32 != 0 && isNarrow(space))) return -1 - <f64>(<u32>result);
  // A page to be read, or an address that the mode does not have, which the host refuses. The host
  // repeats the access from here: keeping the arguments for that would cost every call.
  const work = load<u32>(space, SPACE_WORK);
  store<u64>(work, address, WORK_MISSING_ADDRESS);
  store<u32>(work, access, WORK_MISSING_ACCESS);
  return -1 - <f64>(STATUS_MISSING_PAGE << 16);
}

/**
 * The physical address, BATCH_FAULT | status << 16 | error code, or MISSING; `fast` is what the fast walk said,
 * NOT_PRESENT or NOT_FAST.
 */
export function walkOn(space: usize, address: u64, access: u32, fast: u64): u64 {
  const cached = load<u32>(space, SPACE_TLB) != 0;
  if (fast == NOT_PRESENT) {
    // The fast walk takes addresses that are canonical and need no untagging.
    if (cached && !(access & ACCESS_PROBE)) dropFaulted(space, address);
    return BATCH_FAULT | (STATUS_PAGE_FAULT << 16) | reportedCode(space, guestCode(access));
  }
  // With a software TLB the full walk takes the rest: what it finds replaces or drops the TLB's entry.
  if (!cached) {
    const exact = walkExact(space, address, access);
    if (exact != NOT_FAST) return exact;
  }
  const status = run(space, address, access, 0);
  if (status == STATUS_MISSING_PAGE) return MISSING;
  const work = load<u32>(space, SPACE_WORK);
  if (status == STATUS_OK) return load<u64>(work, WORK_PA);
  return BATCH_FAULT | (status << 16) | (load<u32>(work, WORK_CODE) & 0xffff);
}
