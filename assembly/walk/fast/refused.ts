/** Accesses that a fast walk did not finish. */
import { ACCESS_PROBE, BATCH_CODE, BATCH_FAULT } from "../../abi/bits";
import { STATUS_MISSING_PAGE, STATUS_OK, STATUS_PAGE_FAULT } from "../../abi/codes";
import { Space } from "../../abi/records";
import { guestCode } from "../access";
import { isNarrow } from "../linear";
import { NOT_FAST, NOT_PRESENT } from "../plan";
import { run } from "../space/run";
import { dropFaulted } from "../tlb/tlb";
import { reportedCode, walkExact } from "./exact";

/** A page has to be read first. No result looks like it: bit 63 comes with a status, and addresses have 52 bits. */
// @ts-ignore: decorator
@inline export const MISSING: u64 = 0xffffffffffffffff;

/** `walkOn` for single calls: what `translate` returns. */
export function finishRefused(space: Space, address: u64, access: u32, fast: u64): f64 {
  const result = walkOn(space, address, access, fast);
  if (<i64>result >= 0) return <f64>(<i64>result);
  if (result != MISSING && !(address >> 32 != 0 && isNarrow(space))) return -1 - <f64>(<u32>result);
  // A page to be read, or an address that the mode does not have, which the host refuses. The host
  // repeats the access from here: keeping the arguments for that would cost every call.
  const work = space.work;
  work.missingAddress = address;
  work.missingAccess = access;
  return -1 - <f64>(STATUS_MISSING_PAGE << 16);
}

/**
 * The physical address, BATCH_FAULT | status << 16 | error code, or MISSING; `fast` is what the fast walk said,
 * NOT_PRESENT or NOT_FAST.
 */
export function walkOn(space: Space, address: u64, access: u32, fast: u64): u64 {
  const cached = space.tlb != 0;
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
  const work = space.work;
  if (status == STATUS_OK) return work.pa;
  return BATCH_FAULT | (status << 16) | (work.code & BATCH_CODE);
}
