/**
 * The software TLB of an address space: direct-mapped, 4 KiB entries, larger pages as pieces of 4 KiB. In front of it
 * are the lines of tlb-lines.ts, which the host reads itself.
 *
 * A tag is the address of the page with the PCID in bits 11:0, or for a global entry with TLB_TAG_GLOBAL in place of it.
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
  TLB_TAG_GLOBAL,
  TLB_TAG_PAGE,
  TLB_TAG_PCID,
} from "../../abi/bits";
import { MODE_32BIT, MODE_PAE, RIGHT_EXECUTE, RIGHT_USER, RIGHT_WRITE, TLB_ALL, TLB_NON_GLOBAL } from "../../abi/codes";
import { Space, TlbEntry, Work } from "../../abi/records";
import { NOT_FAST, planFor } from "../plan";
import { clearLines, dropLines } from "./tlb-lines";

/** Multiplicative (Fibonacci) hash of the page: regions that begin at round addresses do not share places. */
// @ts-ignore: decorator
@inline function entryOf(tlb: usize, mask: u32, address: u64): TlbEntry {
  const number = (<u32>(((address >> 12) * 0x9e3779b97f4a7c15) >> 40)) & mask;
  return changetype<TlbEntry>(tlb + number * TlbEntry.SIZE);
}

/** The physical address of a hit that the access's plan allows, else NOT_FAST. */
// @ts-ignore: decorator
@inline export function lookUp(space: Space, tlb: usize, address: u64, access: u32): u64 {
  if ((access & (ACCESS_IMPLICIT | ACCESS_PROBE)) != 0) return NOT_FAST;
  // Tags tell canonical addresses apart, no others.
  if ((address + space.half) & space.high) return NOT_FAST;
  const plan = planFor(space, access);
  const entry = entryOf(tlb, space.tlbMask, address);
  const data = entry.data;
  const tag = entry.tag ^ (address & TLB_TAG_PAGE);
  if (tag != space.pcid && tag != TLB_TAG_GLOBAL) return NOT_FAST;
  const wrong = (data ^ plan.needLeaf) & plan.checkTlb;
  if (wrong | plan.block) return NOT_FAST;
  return (data & PTE_ADDRESS) | (address & 0xfff);
}

/** Enters what the full walk of canonical, untagged `address` left in the Work record. */
export function enterWork(space: Space, work: Work, address: u64): void {
  const leaf = work.entry;
  const level = work.level;
  if (level == 0) return;
  const rights = work.rights;
  let bits: u64 = rights & RIGHT_WRITE ? PTE_RW : 0;
  if (rights & RIGHT_USER) bits |= PTE_US;
  if (!(rights & RIGHT_EXECUTE)) bits |= PTE_XD;
  dropLines(space, address);
  enter(space, address, work.pa, leaf, bits, level);
}

/** Enters what the fast walk of `address` has just found at `pa`: every entry was good, and lies in the root's slot. */
export function enterFast(space: Space, address: u64, pa: u64): void {
  const linear = space.tablesLinear - <u32>space.tablesBase;
  const addressMask = space.addressMask;
  const mode = space.mode;
  const large = space.largeLevels;
  const narrow = mode == MODE_32BIT;
  const indexBits: u32 = narrow ? 10 : 9;
  let level = space.rootLevel;
  let table = space.root;
  if (mode == MODE_PAE) {
    level = 2;
    table = space.pdptes((<u32>address) >> 30) & addressMask;
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
      const xd = any & space.xdMask;
      enter(space, address, pa, entry, (all & (PTE_RW | PTE_US)) | xd, level);
      return;
    }
    table = entry & addressMask;
    level--;
  }
}

/** `bits`: R/W, U/S and XD over all levels. */
function enter(space: Space, address: u64, pa: u64, leaf: u64, bits: u64, level: u32): void {
  const tlb = space.tlb;
  const global = (leaf & PTE_G) != 0 && (space.cr4 & CR4_PGE) != 0;
  const key = space.mode > MODE_PAE ? leaf & PTE_PKEY : 0;
  let data = (pa & PTE_ADDRESS) | bits | PTE_P | PTE_A | (leaf & PTE_D) | key;
  if (level > 1) {
    data |= PTE_PS;
    space.tlbLarge |= (<u32>1) << level;
  }
  const entry = entryOf(tlb, space.tlbMask, address);
  entry.tag = (address & TLB_TAG_PAGE) ^ (global ? TLB_TAG_GLOBAL : space.pcid);
  entry.data = data;
}

/** A fault at canonical, untagged `address` drops what the TLB holds for it (SDM "Operations that Invalidate TLBs"). */
export function dropFaulted(space: Space, address: u64): void {
  tlbDropPage(space, address, <u32>space.pcid, 1);
}

/**
 * INVLPG and INVPCID type 0: drops the entry of `address` in `pcid`, and with `global` also a global one. Pieces of a
 * larger page all go, whichever address of the page is given (SDM "Operations that Invalidate TLBs and Paging-Structure
 * Caches"); a piece does not say how large its page is, so the largest that was entered counts: more may be dropped.
 */
export function tlbDropPage(space: Space, address: u64, pcid: u32, global: u32): void {
  const tlb = space.tlb;
  if (tlb == 0) return;
  const mask = space.tlbMask;
  const large = space.tlbLarge;
  dropIf(entryOf(tlb, mask, address), address, TLB_TAG_PAGE, pcid, global);
  if (large == 0) {
    dropLines(space, address);
    return;
  }
  clearLines(space);
  const same = ~reachOf(space.mode, 31 - clz<u32>(large));
  for (let i: u32 = 0; i <= mask; i++) {
    const entry = changetype<TlbEntry>(tlb + i * TlbEntry.SIZE);
    if (entry.data & PTE_PS) dropIf(entry, address, same, pcid, global);
  }
}

/** The offset bits of the largest page at `level`. */
function reachOf(mode: u32, level: u32): u64 {
  const shift: u64 = 12 + <u64>(level - 1) * (mode == MODE_32BIT ? 10 : 9);
  return ((<u64>1) << shift) - 1;
}

/** Drops `entry` where its page agrees with `address` in the bits of `same` and it is of `pcid`, or global. */
// @ts-ignore: decorator
@inline function dropIf(entry: TlbEntry, address: u64, same: u64, pcid: u32, global: u32): void {
  const tag = entry.tag;
  const marked = isGlobal(tag);
  const page = marked ? tag ^ TLB_TAG_GLOBAL : tag & TLB_TAG_PAGE;
  if ((page ^ address) & same) return;
  if (marked ? global != 0 : <u32>(tag & TLB_TAG_PCID) == pcid) entry.data = 0;
}

/** Drops entries: TLB_ALL, TLB_NON_GLOBAL, or TLB_PCID those of `pcid` that are not global. */
export function tlbFlush(space: Space, which: u32, pcid: u32): void {
  const tlb = space.tlb;
  if (tlb == 0) return;
  const mask = space.tlbMask;
  clearLines(space);
  if (which == TLB_ALL) {
    memory.fill(tlb, 0, (<usize>mask + 1) << 4);
    space.tlbLarge = 0;
    return;
  }
  for (let i: u32 = 0; i <= mask; i++) {
    const entry = changetype<TlbEntry>(tlb + i * TlbEntry.SIZE);
    const tag = entry.tag;
    if (isGlobal(tag)) continue;
    if (which == TLB_NON_GLOBAL || <u32>(tag & TLB_TAG_PCID) == pcid) entry.data = 0;
  }
}

/** Bits 63 and 62 of a canonical address are equal; the mark of a global entry makes them differ. */
// @ts-ignore: decorator
@inline function isGlobal(tag: u64): bool {
  return (tag ^ (tag << 1)) >> 63 != 0;
}
