/**
 * The software TLB of an address space: direct-mapped, 4 KiB entries, larger pages as pieces of 4 KiB. In front of it
 * are the lines of tlb-lines.ts, which the host reads itself.
 *
 * A tag is the address of the page with the PCID in bits 11:0, or for a global entry with TLB_GLOBAL in place of it.
 * The data are laid out like a leaf entry: frame, P where the entry is valid, R/W and U/S ANDed and XD ORed over the
 * levels, D and the protection key of the leaf, PS for a piece of a larger page. So a hit is checked by the same plan as
 * a leaf of the fast walk: CPL, AC, WP and PKRU are applied at the hit, and what the plan refuses is walked.
 * Entries are made only where every accessed bit was set, faults are not kept, and probes neither read nor fill it.
 */
import {
  ACCESS_IMPLICIT,
  ACCESS_PROBE,
  CR4_PGE,
  PTE_A,
  PTE_ADDRESS,
  PTE_D,
  PTE_G,
  PTE_P,
  PTE_PKEY,
  PTE_PS,
  PTE_RW,
  PTE_US,
  PTE_XD,
} from "../../abi/bits";
import { MODE_32BIT, MODE_PAE, RIGHT_EXECUTE, RIGHT_USER, RIGHT_WRITE, TLB_ALL, TLB_NON_GLOBAL } from "../../abi/codes";
import {
  PLAN_BLOCK,
  PLAN_CHECK_TLB,
  PLAN_NEED_LEAF,
  SPACE_ADDRESS_MASK,
  SPACE_CR4,
  SPACE_HALF,
  SPACE_HIGH,
  SPACE_LARGE_LEVELS,
  SPACE_MODE,
  SPACE_PCID,
  SPACE_PDPTES,
  SPACE_ROOT,
  SPACE_ROOT_LEVEL,
  SPACE_TABLES_BASE,
  SPACE_TABLES_LINEAR,
  SPACE_TLB,
  SPACE_TLB_LARGE,
  SPACE_TLB_MASK,
  SPACE_XD_MASK,
  TLB_ENTRY_DATA,
  TLB_ENTRY_SIZE_OF,
  TLB_ENTRY_TAG,
  WORK_ENTRY,
  WORK_LEVEL,
  WORK_PA,
  WORK_RIGHTS,
} from "../../abi/layout";
import { NOT_FAST, planFor } from "../plan";
import { clearLines, dropLines } from "./tlb-lines";

/** Added to a canonical address, whose bits 63:57 are equal, it gives what no canonical address is. */
// @ts-ignore: decorator
@inline const TLB_GLOBAL: u64 = 1 << 62;

/** Bits 63:12. */
// @ts-ignore: decorator
@inline const PAGE: u64 = 0xfffffffffffff000;

/** Multiplicative (Fibonacci) hash of the page: regions that begin at round addresses do not share places. */
// @ts-ignore: decorator
@inline function entryOf(tlb: usize, mask: u32, address: u64): usize {
  assert(TLB_ENTRY_SIZE_OF == 16);
  return tlb + <usize>(((<u32>(((address >> 12) * 0x9e3779b97f4a7c15) >> 40)) & mask) << 4);
}

/** The physical address of a hit that the access's plan allows, else NOT_FAST. */
// @ts-ignore: decorator
@inline export function lookUp(space: usize, tlb: usize, address: u64, access: u32): u64 {
  if ((access & (ACCESS_IMPLICIT | ACCESS_PROBE)) != 0) return NOT_FAST;
  // Tags tell canonical addresses apart, no others.
  if ((address + load<u64>(space, SPACE_HALF)) & load<u64>(space, SPACE_HIGH)) return NOT_FAST;
  const plan = planFor(space, access);
  const entry = entryOf(tlb, load<u32>(space, SPACE_TLB_MASK), address);
  const data = load<u64>(entry, TLB_ENTRY_DATA);
  const tag = load<u64>(entry, TLB_ENTRY_TAG) ^ (address & PAGE);
  if (tag != load<u64>(space, SPACE_PCID) && tag != TLB_GLOBAL) return NOT_FAST;
  const wrong = (data ^ load<u64>(plan, PLAN_NEED_LEAF)) & load<u64>(plan, PLAN_CHECK_TLB);
  if (wrong | load<u64>(plan, PLAN_BLOCK)) return NOT_FAST;
  return (data & PTE_ADDRESS) | (address & 0xfff);
}

/** Enters what the full walk of canonical, untagged `address` left in the WORK record. */
export function enterWork(space: usize, work: usize, address: u64): void {
  const leaf = load<u64>(work, WORK_ENTRY);
  const level = load<u32>(work, WORK_LEVEL);
  if (level == 0) return;
  const rights = load<u32>(work, WORK_RIGHTS);
  let bits: u64 = rights & RIGHT_WRITE ? PTE_RW : 0;
  if (rights & RIGHT_USER) bits |= PTE_US;
  if (!(rights & RIGHT_EXECUTE)) bits |= PTE_XD;
  dropLines(space, address);
  enter(space, address, load<u64>(work, WORK_PA), leaf, bits, level);
}

/** Enters what the fast walk of `address` has just found at `pa`: every entry was good, and lies in the root's slot. */
export function enterFast(space: usize, address: u64, pa: u64): void {
  const linear = load<u32>(space, SPACE_TABLES_LINEAR) - <u32>load<u64>(space, SPACE_TABLES_BASE);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const mode = load<u32>(space, SPACE_MODE);
  const large = load<u32>(space, SPACE_LARGE_LEVELS);
  const narrow = mode == MODE_32BIT;
  const indexBits: u32 = narrow ? 10 : 9;
  let level = load<u32>(space, SPACE_ROOT_LEVEL);
  let table = load<u64>(space, SPACE_ROOT);
  if (mode == MODE_PAE) {
    level = 2;
    table = load<u64>(space + (((<u32>address) >> 30) << 3), SPACE_PDPTES) & addressMask;
  }
  let all: u64 = 0xffffffffffffffff;
  let any: u64 = 0;
  while (true) {
    const index = (<u32>(address >> (<u64>(12 + (level - 1) * indexBits)))) & ((1 << indexBits) - 1);
    const at = linear + <u32>table;
    const entry = narrow ? <u64>load<u32>(at + (index << 2)) : load<u64>(at + (index << 3));
    all &= entry;
    any |= entry;
    if (level == 1 || ((entry & PTE_PS) != 0 && ((large >> level) & 1) != 0)) {
      const xd = any & load<u64>(space, SPACE_XD_MASK);
      enter(space, address, pa, entry, (all & (PTE_RW | PTE_US)) | xd, level);
      return;
    }
    table = entry & addressMask;
    level--;
  }
}

/** `bits`: R/W, U/S and XD over all levels. */
function enter(space: usize, address: u64, pa: u64, leaf: u64, bits: u64, level: u32): void {
  const tlb: usize = load<u32>(space, SPACE_TLB);
  const global = (leaf & PTE_G) != 0 && (load<u32>(space, SPACE_CR4) & CR4_PGE) != 0;
  const key = load<u32>(space, SPACE_MODE) > MODE_PAE ? leaf & PTE_PKEY : 0;
  let data = (pa & PTE_ADDRESS) | bits | PTE_P | PTE_A | (leaf & PTE_D) | key;
  if (level > 1) {
    data |= PTE_PS;
    store<u32>(space, load<u32>(space, SPACE_TLB_LARGE) | ((<u32>1) << level), SPACE_TLB_LARGE);
  }
  const entry = entryOf(tlb, load<u32>(space, SPACE_TLB_MASK), address);
  store<u64>(entry, (address & PAGE) ^ (global ? TLB_GLOBAL : load<u64>(space, SPACE_PCID)), TLB_ENTRY_TAG);
  store<u64>(entry, data, TLB_ENTRY_DATA);
}

/** A fault at canonical, untagged `address` drops what the TLB holds for it (SDM "Operations that Invalidate TLBs"). */
export function dropFaulted(space: usize, address: u64): void {
  tlbDropPage(space, address, <u32>load<u64>(space, SPACE_PCID), 1);
}

/**
 * INVLPG and INVPCID type 0: drops the entry of `address` in `pcid`, and with `global` also a global one. Pieces of a
 * larger page all go, whichever address of the page is given (SDM "Operations that Invalidate TLBs and Paging-Structure
 * Caches"); a piece does not say how large its page is, so the largest that was entered counts: more may be dropped.
 */
export function tlbDropPage(space: usize, address: u64, pcid: u32, global: u32): void {
  const tlb: usize = load<u32>(space, SPACE_TLB);
  if (tlb == 0) return;
  const mask = load<u32>(space, SPACE_TLB_MASK);
  const large = load<u32>(space, SPACE_TLB_LARGE);
  dropIf(entryOf(tlb, mask, address), address, PAGE, pcid, global);
  if (large == 0) {
    dropLines(space, address);
    return;
  }
  clearLines(space);
  const same = ~reachOf(load<u32>(space, SPACE_MODE), 31 - clz<u32>(large));
  for (let i: u32 = 0; i <= mask; i++) {
    const entry = tlb + <usize>(i << 4);
    if (load<u64>(entry, TLB_ENTRY_DATA) & PTE_PS) dropIf(entry, address, same, pcid, global);
  }
}

/** The offset bits of the largest page at `level`. */
function reachOf(mode: u32, level: u32): u64 {
  const shift: u64 = 12 + <u64>(level - 1) * (mode == MODE_32BIT ? 10 : 9);
  return ((<u64>1) << shift) - 1;
}

/** Drops `entry` where its page agrees with `address` in the bits of `same` and it is of `pcid`, or global. */
// @ts-ignore: decorator
@inline function dropIf(entry: usize, address: u64, same: u64, pcid: u32, global: u32): void {
  const tag = load<u64>(entry, TLB_ENTRY_TAG);
  const marked = isGlobal(tag);
  const page = marked ? tag ^ TLB_GLOBAL : tag & PAGE;
  if ((page ^ address) & same) return;
  if (marked ? global != 0 : ((<u32>tag) & 0xfff) == pcid) store<u64>(entry, 0, TLB_ENTRY_DATA);
}

/** Drops entries: TLB_ALL, TLB_NON_GLOBAL, or TLB_PCID those of `pcid` that are not global. */
export function tlbFlush(space: usize, which: u32, pcid: u32): void {
  const tlb: usize = load<u32>(space, SPACE_TLB);
  if (tlb == 0) return;
  const mask = load<u32>(space, SPACE_TLB_MASK);
  clearLines(space);
  if (which == TLB_ALL) {
    memory.fill(tlb, 0, (<usize>mask + 1) << 4);
    store<u32>(space, 0, SPACE_TLB_LARGE);
    return;
  }
  for (let i: u32 = 0; i <= mask; i++) {
    const entry = tlb + <usize>(i << 4);
    const tag = load<u64>(entry, TLB_ENTRY_TAG);
    if (isGlobal(tag)) continue;
    if (which == TLB_NON_GLOBAL || ((<u32>tag) & 0xfff) == pcid) store<u64>(entry, 0, TLB_ENTRY_DATA);
  }
}

/** Bits 63 and 62 of a canonical address are equal; the mark of a global entry makes them differ. */
// @ts-ignore: decorator
@inline function isGlobal(tag: u64): bool {
  return (tag ^ (tag << 1)) >> 63 != 0;
}
