/**
 * The first level of the software TLB: lines that the host compares by itself, so that a hit costs no call. A line is one
 * page for one kind of access, in the current context: its rights were checked when it was made. So lines go whenever
 * what they rest on changes: all of them with the registers, the context or a flush, those of a page with its entry.
 *
 * LOW holds bits 31:12 of the page, the access and LINE_VALID; no bit of an access is below or above.
 */
import { ACCESS_AC, ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE } from "../../abi/bits";
import { LINE_HASH, LINE_VALID } from "../../abi/codes";
import {
  SPACE_TLB_LINES,
  SPACE_TLB_LINES_USED,
  SPACE_TLB_MASK,
  TLB_LINE_FRAME,
  TLB_LINE_HIGH,
  TLB_LINE_LOW,
  TLB_LINE_SIZE_OF,
} from "../../abi/layout";

/** What a line's access may have: the others never come from the TLB. */
// @ts-ignore: decorator
@inline const KINDS: u32 = ACCESS_AC | ACCESS_FETCH | ACCESS_USER | ACCESS_WRITE;

/** The place of a page and an access; the host computes the same. */
// @ts-ignore: decorator
@inline function lineOf(space: usize, high: u32, low: u32, access: u32): usize {
  assert(TLB_LINE_SIZE_OF == 16);
  const hash = low ^ ((high + access) * LINE_HASH);
  return load<u32>(space, SPACE_TLB_LINES) + (((hash >>> 12) & load<u32>(space, SPACE_TLB_MASK)) << 4);
}

/** Keeps that `access` to `address` was found in the TLB, and allowed, at `pa`: a frame number is a positive i32. */
export function keepLine(space: usize, address: u64, access: u32, pa: u64): void {
  if ((access & ~KINDS) != 0 || pa >> 43 != 0) return;
  const high = <u32>(address >> 32);
  const low = <u32>address;
  const line = lineOf(space, high, low, access);
  store<u32>(line, (low & 0xfffff000) | access | LINE_VALID, TLB_LINE_LOW);
  store<u32>(line, high, TLB_LINE_HIGH);
  store<u32>(line, <u32>(pa >> 12), TLB_LINE_FRAME);
  store<u32>(space, 1, SPACE_TLB_LINES_USED);
}

/** Drops every line. */
export function clearLines(space: usize): void {
  if (load<u32>(space, SPACE_TLB_LINES_USED) == 0) return;
  store<u32>(space, 0, SPACE_TLB_LINES_USED);
  memory.fill(load<u32>(space, SPACE_TLB_LINES), 0, (load<u32>(space, SPACE_TLB_MASK) + 1) << 4);
}

/** Drops the lines of the 4 KiB page of `address`, whatever their access. */
export function dropLines(space: usize, address: u64): void {
  if (load<u32>(space, SPACE_TLB_LINES_USED) == 0) return;
  const high = <u32>(address >> 32);
  const low = <u32>address;
  // The subsets of KINDS, from all of them down to none.
  let access: u32 = KINDS;
  while (true) {
    const line = lineOf(space, high, low, access);
    const same = load<u32>(line, TLB_LINE_HIGH) == high && ((load<u32>(line, TLB_LINE_LOW) ^ low) & 0xfffff000) == 0;
    if (same) store<u32>(line, 0, TLB_LINE_LOW);
    if (access == 0) return;
    access = (access - 1) & KINDS;
  }
}
