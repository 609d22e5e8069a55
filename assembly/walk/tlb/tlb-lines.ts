/**
 * The first level of the software TLB: lines that the host compares by itself, so that a hit costs no call. A line is one
 * page for one kind of access, in the current context: its rights were checked when it was made. So lines go whenever
 * what they rest on changes: all of them with the registers, the context or a flush, those of a page with its entry.
 *
 * LOW holds bits 31:12 of the page, the access and LINE_VALID; no bit of an access is below or above.
 */
import { ACCESS_AC, ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE } from "../../abi/bits";
import { LINE_HASH, LINE_VALID } from "../../abi/codes";
import { Space, TlbLine } from "../../abi/records";

/** What a line's access may have: the others never come from the TLB. */
// @ts-ignore: decorator
@inline const KINDS: u32 = ACCESS_AC | ACCESS_FETCH | ACCESS_USER | ACCESS_WRITE;

/** The place of a page and an access; the host computes the same. */
// @ts-ignore: decorator
@inline function lineOf(space: Space, high: u32, low: u32, access: u32): TlbLine {
  const hash = low ^ ((high + access) * LINE_HASH);
  return changetype<TlbLine>(space.tlbLines + ((hash >>> 12) & space.tlbMask) * TlbLine.SIZE);
}

/** Keeps that `access` to `address` was found in the TLB, and allowed, at `pa`: a frame number is a positive i32. */
export function keepLine(space: Space, address: u64, access: u32, pa: u64): void {
  if ((access & ~KINDS) != 0 || pa >> 43 != 0) return;
  const high = <u32>(address >> 32);
  const low = <u32>address;
  const line = lineOf(space, high, low, access);
  line.low = (low & 0xfffff000) | access | LINE_VALID;
  line.high = high;
  line.frame = <u32>(pa >> 12);
  space.tlbLinesUsed = 1;
}

/** Drops every line. */
export function clearLines(space: Space): void {
  if (space.tlbLinesUsed == 0) return;
  space.tlbLinesUsed = 0;
  memory.fill(space.tlbLines, 0, (space.tlbMask + 1) * TlbLine.SIZE);
}

/** Drops the lines of the 4 KiB page of `address`, whatever their access. */
export function dropLines(space: Space, address: u64): void {
  if (space.tlbLinesUsed == 0) return;
  const high = <u32>(address >> 32);
  const low = <u32>address;
  // The subsets of KINDS, from all of them down to none.
  let access: u32 = KINDS;
  while (true) {
    const line = lineOf(space, high, low, access);
    const same = line.high == high && ((line.low ^ low) & 0xfffff000) == 0;
    if (same) line.low = 0;
    if (access == 0) return;
    access = (access - 1) & KINDS;
  }
}
