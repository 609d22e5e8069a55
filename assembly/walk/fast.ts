/**
 * The common case of a 4- or 5-level walk: every table in the slot that was hit last, every entry present, accessed and
 * free of reserved bits, the access allowed, nothing to update. Anything else is NOT_FAST, and the full walk decides.
 * The checks of all entries are gathered and tested once: a table address taken from a bad entry can only lead to
 * another place inside the slot, whose contents no longer matter.
 */
import { ACCESS_WRITE, PTE_A, PTE_D, PTE_P, PTE_PS, PTE_RW, PTE_US } from "../abi/bits";
import { MODE_5LEVEL, RIGHT_EXECUTE } from "../abi/codes";
import {
  MEMORY_LAST_SLOT, SLOT_BASE, SLOT_LINEAR, SLOT_SIZE, SPACE_ADDRESS_MASK, SPACE_FAST, SPACE_FAST_MASK, SPACE_MEMORY,
  SPACE_MODE, SPACE_ROOT, SPACE_WIDTH, SPACE_XD_MASK,
} from "../abi/layout";
import { guestCode, isMasked } from "./access";
import { signExtend, untag } from "./linear";
import { denies } from "./permissions";

/** No physical address: the full walk has to be taken. */
// @ts-ignore: decorator
@inline export const NOT_FAST: u64 = 0xffffffffffffffff;

// @ts-ignore: decorator
@inline const WANTED: u64 = PTE_P | PTE_A;

/** Byte offset of the entry for `address` at the level whose index begins at bit `shift`. */
// @ts-ignore: decorator
@inline function indexOf(address: u64, shift: u64): u64 {
  return (address >> (shift - 3)) & (511 << 3);
}

/** Bits of `entry` that are not as the fast walk wants them; `half` is 0, or 5 for an entry with PS set. */
// @ts-ignore: decorator
@inline function wrongBits(space: usize, entry: u64, level: u32, half: u32): u64 {
  return (entry ^ WANTED) & load<u64>(space + ((level - 1 + half) << 3), SPACE_FAST_MASK);
}

/** The physical address, or NOT_FAST. */
export function walkFast(space: usize, given: u64, access: u32): u64 {
  if (!load<u32>(space, SPACE_FAST)) return NOT_FAST;
  const address = isMasked(access) ? untag(space, given) : given;
  if (signExtend(address, load<u32>(space, SPACE_WIDTH)) != address) return NOT_FAST;

  const slot = load<u32>(load<u32>(space, SPACE_MEMORY), MEMORY_LAST_SLOT);
  const base = load<u64>(slot, SLOT_BASE);
  const size = load<u64>(slot, SLOT_SIZE);
  const linear = load<u32>(slot, SLOT_LINEAR);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  let all: u64 = 0xffffffffffffffff;
  let any: u64 = 0;
  let wrong: u64 = 0;

  let offset = load<u64>(space, SPACE_ROOT) - base;
  if (load<u32>(space, SPACE_MODE) == MODE_5LEVEL) {
    offset += indexOf(address, 48);
    if (offset >= size) return NOT_FAST;
    const entry5 = load<u64>(linear + <u32>offset);
    all = any = entry5;
    wrong = wrongBits(space, entry5, 5, 0);
    offset = (entry5 & addressMask) - base;
  }

  offset += indexOf(address, 39);
  if (offset >= size) return NOT_FAST;
  const entry4 = load<u64>(linear + <u32>offset);
  all &= entry4;
  any |= entry4;
  wrong |= wrongBits(space, entry4, 4, 0);

  offset = (entry4 & addressMask) - base + indexOf(address, 30);
  if (offset >= size) return NOT_FAST;
  const entry3 = load<u64>(linear + <u32>offset);
  all &= entry3;
  any |= entry3;
  if (entry3 & PTE_PS) return finish(space, access, entry3, all, any, wrong | wrongBits(space, entry3, 3, 5), address, 30);
  wrong |= wrongBits(space, entry3, 3, 0);

  offset = (entry3 & addressMask) - base + indexOf(address, 21);
  if (offset >= size) return NOT_FAST;
  const entry2 = load<u64>(linear + <u32>offset);
  all &= entry2;
  any |= entry2;
  if (entry2 & PTE_PS) return finish(space, access, entry2, all, any, wrong | wrongBits(space, entry2, 2, 5), address, 21);
  wrong |= wrongBits(space, entry2, 2, 0);

  offset = (entry2 & addressMask) - base + indexOf(address, 12);
  if (offset >= size) return NOT_FAST;
  const entry1 = load<u64>(linear + <u32>offset);
  all &= entry1;
  any |= entry1;
  return finish(space, access, entry1, all, any, wrong | wrongBits(space, entry1, 1, 0), address, 12);
}

// @ts-ignore: decorator
@inline function finish(space: usize, access: u32, leaf: u64, all: u64, any: u64, wrong: u64, address: u64, shift: u64): u64 {
  const execute: u32 = (any & load<u64>(space, SPACE_XD_MASK)) == 0 ? RIGHT_EXECUTE : 0;
  const rights = (<u32>all & (<u32>PTE_RW | <u32>PTE_US)) | execute;
  const clean = (access & ACCESS_WRITE) != 0 && (leaf & PTE_D) == 0;
  if (wrong != 0 || clean || denies(space, guestCode(access), rights)) return NOT_FAST;
  const offsetMask: u64 = ((<u64>1) << shift) - 1;
  return (leaf & load<u64>(space, SPACE_ADDRESS_MASK) & ~offsetMask) | (address & offsetMask);
}
