/**
 * The software TLB of an address space: direct-mapped, 4 KiB entries, larger pages as pieces of 4 KiB. In front of it
 * are the lines of tlb-lines.ts, which the host reads itself.
 *
 * A tag is the address of the page with the number of its context in bits 11:0 (tlb-names.ts), of a global entry with the
 * mark and the number of global ones; both say where the entry lies, so that one page can be there in several contexts.
 * The data are laid out like a leaf entry: frame, P where the entry is valid, R/W and U/S ANDed and XD ORed over the
 * levels, D and the protection key of the leaf, PS for a piece of a larger page. So a hit is checked by the same plan as
 * a leaf of the fast walk: CPL, AC, WP and PKRU are applied at the hit, and what the plan refuses is walked.
 * Entries are made only where every accessed bit was set, faults are not kept, and probes neither read nor fill it.
 */
import {
  ACCESS_IMPLICIT,
  ACCESS_PROBE,
  CR4_LASS,
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
  TLB_TAG_CONTEXT,
  TLB_TAG_PAGE,
} from "../../abi/bits";
import { MODE_32BIT, MODE_PAE, RIGHT_EXECUTE, RIGHT_USER, RIGHT_WRITE, TLB_ALL, TLB_PCID } from "../../abi/codes";
import { Space, TlbEntry, Work } from "../../abi/records";
import { isCanonical, linearOf, violatesSeparation } from "../linear";
import { NOT_FAST, planFor } from "../plan";
import { readAgain } from "./read-again";
import { dropLines } from "./tlb-lines";
import { clearLines, contextOf, globalMark, renameAll, renameContext } from "./tlb-names";

/** Bits of a name that move its entries elsewhere: out of the way of the low bits, by which pages lie side by side. */
// @ts-ignore: decorator
@inline const NAME_SHIFT: u64 = 44;

/** Multiplicative (Fibonacci) hash of the page and the name: regions that begin at round addresses do not share places. */
// @ts-ignore: decorator
@inline function entryOf(tlb: usize, mask: u32, address: u64, name: u64): TlbEntry {
  const page = (address >> 12) ^ (name << NAME_SHIFT);
  const number = (<u32>((page * 0x9e3779b97f4a7c15) >> 40)) & mask;
  return changetype<TlbEntry>(tlb + number * TlbEntry.SIZE);
}

/** The physical address of a hit that the access's plan allows, else NOT_FAST. */
// @ts-ignore: decorator
@inline export function lookUp(space: Space, tlb: usize, address: u64, access: u32): u64 {
  if ((access & (ACCESS_IMPLICIT | ACCESS_PROBE)) != 0) return NOT_FAST;
  // Tags tell canonical addresses apart, no others.
  if ((address + space.half) & space.high) return lookUpElsewhere(space, tlb, address, access);
  return find(space, tlb, address, access);
}

/** An address that is not canonical, or whose half linear-address-space separation may not leave to the access. */
function lookUpElsewhere(space: Space, tlb: usize, address: u64, access: u32): u64 {
  if (!(space.cr4 & CR4_LASS) || violatesSeparation(space, address, access)) return NOT_FAST;
  if (!isCanonical(space, address) || linearOf(space, address, access) != address) return NOT_FAST;
  return find(space, tlb, address, access);
}

// @ts-ignore: decorator
@inline function find(space: Space, tlb: usize, address: u64, access: u32): u64 {
  const plan = planFor(space, access);
  const page = address & TLB_TAG_PAGE;
  const context = space.tlbContext;
  let entry = entryOf(tlb, space.tlbMask, address, context);
  if (entry.tag != (page ^ context)) {
    const mark = space.tlbGlobal;
    entry = entryOf(tlb, space.tlbMask, address, mark);
    if (mark == 0 || entry.tag != (page ^ mark)) return NOT_FAST;
  }
  const data = entry.data;
  const wrong = (data ^ plan.needLeaf) & plan.checkTlb;
  if (wrong | plan.block) return NOT_FAST;
  return (data & PTE_ADDRESS) | (address & 0xfff);
}

/** Enters what the full walk of canonical, untagged `address` left in the Work record. */
export function enterWork(space: Space, work: Work, address: u64): void {
  const leaf = work.entry;
  const level = work.level;
  if (level == 0) return;
  dropLines(space, address, space.pcid, space.tlbGlobal != 0);
  enter(space, address, work.pa, leaf, entryBits(work.rights), level);
}

/** Enters what the fast walk of `address` has just found at `pa`, unless the tables say something else by now. */
export function enterFast(space: Space, address: u64, pa: u64): void {
  if (!readAgain(space, address, pa)) return;
  const work = space.work;
  enter(space, address, pa, work.entry, entryBits(work.rights), work.level);
}

/** R/W, U/S and XD of an entry that grants these rights. */
// @ts-ignore: decorator
@inline function entryBits(rights: u32): u64 {
  return (
    (rights & RIGHT_WRITE ? PTE_RW : 0) | (rights & RIGHT_USER ? PTE_US : 0) | (rights & RIGHT_EXECUTE ? 0 : PTE_XD)
  );
}

/** `bits`: R/W, U/S and XD over all levels. What is there of the page under the other name is no longer true. */
function enter(space: Space, address: u64, pa: u64, leaf: u64, bits: u64, level: u32): void {
  const tlb = space.tlb;
  const mask = space.tlbMask;
  const global = (leaf & PTE_G) != 0 && (space.cr4 & CR4_PGE) != 0;
  const key = space.mode > MODE_PAE ? leaf & PTE_PKEY : 0;
  let data = (pa & PTE_ADDRESS) | bits | PTE_P | PTE_A | (leaf & PTE_D) | key;
  const page = address & TLB_TAG_PAGE;
  space.tlbNames.fills++;
  // Giving a mark may empty the TLB.
  const name = global ? globalMark(space) : space.tlbContext;
  if (level > 1) {
    data |= PTE_PS;
    space.tlbLarge |= (<u32>1) << level;
  }
  const other = global ? space.tlbContext : space.tlbGlobal;
  if (other != 0) dropTag(tlb, mask, address, page ^ other, other);
  const entry = entryOf(tlb, mask, address, name);
  entry.tag = page ^ name;
  entry.data = data;
}

// @ts-ignore: decorator
@inline function dropTag(tlb: usize, mask: u32, address: u64, tag: u64, name: u64): void {
  const entry = entryOf(tlb, mask, address, name);
  if (entry.tag == tag) entry.tag = 0;
}

/** A fault at canonical, untagged `address` drops what the TLB holds for it (SDM "Operations that Invalidate TLBs"). */
export function dropFaulted(space: Space, address: u64): void {
  tlbDropPage(space, address, space.pcid, 1);
}

/**
 * INVLPG and INVPCID type 0: drops the entry of `address` in `pcid`, and with `global` also a global one. Pieces of a
 * larger page all go, whichever address of the page is given (SDM "Operations that Invalidate TLBs and Paging-Structure
 * Caches"); a piece does not say how large its page is, so the largest that was entered counts: more may be dropped.
 */
export function tlbDropPage(space: Space, address: u64, pcid: u32, global: u32): void {
  const tlb = space.tlb;
  if (tlb == 0) return;
  space.tlbNames.drops++;
  const mask = space.tlbMask;
  const context = contextOf(space, pcid);
  const mark = global != 0 ? space.tlbGlobal : 0;
  const page = address & TLB_TAG_PAGE;
  const large = space.tlbLarge;
  if (context != 0) dropTag(tlb, mask, address, page ^ context, context);
  if (mark != 0) dropTag(tlb, mask, address, page ^ mark, mark);
  if (large == 0) {
    dropLines(space, address, pcid, mark != 0);
    return;
  }
  clearLines(space);
  const same = ~reachOf(space.mode, 31 - clz<u32>(large)) | TLB_TAG_CONTEXT;
  for (let i: u32 = 0; i <= mask; i++) {
    const entry = changetype<TlbEntry>(tlb + i * TlbEntry.SIZE);
    if (!(entry.data & PTE_PS)) continue;
    const tag = entry.tag;
    const inContext = context != 0 && ((tag ^ page ^ context) & same) == 0;
    if (inContext || (mark != 0 && ((tag ^ page ^ mark) & same) == 0)) entry.tag = 0;
  }
}

/** The offset bits of the largest page at `level`. */
function reachOf(mode: u32, level: u32): u64 {
  const shift: u64 = 12 + <u64>(level - 1) * (mode == MODE_32BIT ? 10 : 9);
  return ((<u64>1) << shift) - 1;
}

/** Drops entries: TLB_ALL, TLB_NON_GLOBAL, or TLB_PCID those of `pcid` that are not global. */
export function tlbFlush(space: Space, which: u32, pcid: u32): void {
  if (space.tlb == 0) return;
  if (which == TLB_PCID) renameContext(space, pcid);
  else renameAll(space, which == TLB_ALL);
}
