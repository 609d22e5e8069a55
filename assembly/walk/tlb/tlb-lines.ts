/**
 * The first level of the software TLB: lines that the host compares by itself, so that a hit costs no call. A line is one
 * page for one kind of access, in one context: its rights were checked when it was made. So lines lose their tag (tlb-names.ts)
 * whenever what they rest on changes: all of them with the registers, a context's with a flush, those of a page with its entry.
 *
 * LOW holds bits 31:12 of the page, and in bits that neither has the access and the context's LINE bits.
 */
import { ACCESS_AC, ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE } from "../../abi/bits";
import { LINE_HASH, LINE_TAGS } from "../../abi/codes";
import { Space, TlbLine } from "../../abi/records";
import { currentLineBits, lineBits, tagOf } from "./tlb-names";

/** What a line's access may have: the others never come from the TLB. */
// @ts-ignore: decorator
@inline const KINDS: u32 = ACCESS_AC | ACCESS_FETCH | ACCESS_USER | ACCESS_WRITE;

/** The place of a page and a kind (the access and LINE bits); the host computes the same. */
// @ts-ignore: decorator
@inline function lineOf(space: Space, high: u32, low: u32, kind: u32): TlbLine {
  const hash = low ^ ((high + kind) * LINE_HASH);
  return changetype<TlbLine>(space.tlbLines + ((hash >>> 12) & space.tlbLineMask) * TlbLine.SIZE);
}

/** Keeps that `access` to `address` was found in the TLB, and allowed, at `pa`: a frame number is a positive i32. */
export function keepLine(space: Space, address: u64, access: u32, pa: u64): void {
  if ((access & ~KINDS) != 0 || pa >> 43 != 0) return;
  const high = <u32>(address >> 32);
  const low = <u32>address;
  const kind = access | currentLineBits(space);
  const line = lineOf(space, high, low, kind);
  line.low = (low & 0xfffff000) | kind;
  line.high = high;
  line.frame = <u32>(pa >> 12);
}

/** Drops the lines of the 4 KiB page of `address` in the context of `pcid`, whatever their access; with `all` in each. */
export function dropLines(space: Space, address: u64, pcid: u32, all: bool): void {
  if (!all) {
    const tag = tagOf(space, pcid);
    if (tag != LINE_TAGS) dropTagged(space, address, lineBits(tag));
    return;
  }
  let live = space.tlbNames.liveTags;
  while (live != 0) {
    dropTagged(space, address, lineBits(ctz<u32>(live)));
    live &= live - 1;
  }
}

function dropTagged(space: Space, address: u64, tag: u32): void {
  const high = <u32>(address >> 32);
  const low = <u32>address;
  // The subsets of KINDS, from all of them down to none.
  let access: u32 = KINDS;
  while (true) {
    const line = lineOf(space, high, low, access | tag);
    const same = line.high == high && ((line.low ^ low) & 0xfffff000) == 0;
    if (same) line.low = 0;
    if (access == 0) return;
    access = (access - 1) & KINDS;
  }
}
