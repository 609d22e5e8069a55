/** The dirty log of a slot (KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG). */
import { checkInteger, checkIterable } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";
import { flushSlot } from "./flushes.js";
import { splitNestedHugePages } from "./split-huge.js";

/** Starts logging anew for the pages of one word of the bitmap (kvm_arch_mmu_enable_log_dirty_pt_masked). */
function relog(vm: Machine, slot: Memslot, offset: number, mask: bigint): void {
  if (vm.initiallyDirty) {
    // Large pages were not write-protected when logging began, because everything counted as dirty.
    const first = slot.base + BigInt(offset + lowestBit(mask));
    const last = slot.base + BigInt(offset + mask.toString(2).length - 1);
    // The range of 6.1 ends before the last page; that page's rmap is looked at all the same.
    const end = vm.has("split-last") ? last + 1n : last;
    splitNestedHugePages(vm, slot, first, end > first ? end : first + 1n);
    vm.tdpMmu?.split(slot, first, end);
    vm.core.protectHuge(slot.core, first);
    if (first >> 9n !== last >> 9n) vm.core.protectHuge(slot.core, last);
  }
  vm.core.relogMasked(slot.core, slot.base + BigInt(offset), mask, vm.pageModificationLog);
}

/** Takes the memory that `relog` may need for the whole slot. */
function reserve(vm: Machine, slot: Memslot): void {
  if (vm.initiallyDirty) vm.tdpMmu?.reserveSplits(slot);
}

function lowestBit(mask: bigint): number {
  let bit = 0;
  while (((mask >> BigInt(bit)) & 1n) === 0n) bit++;
  return bit;
}

function requireLog(slot: Memslot): void {
  if (!slot.core.hasLog) throw new ConfigError(`slot ${slot.id} has no dirty log`);
}

/** Written pages, ascending, relative to the slot. Without manual protect the log is cleared and starts anew. */
export function getDirtyLog(vm: Machine, slot: Memslot): number[] {
  requireLog(slot);
  const pages: number[] = [];
  for (let word = 0; word * 64 < slot.pages; word++) {
    const mask = slot.core.dirtyWord(word);
    if (mask === 0n) continue;
    for (let bit = 0; bit < 64; bit++) if ((mask >> BigInt(bit)) & 1n) pages.push(word * 64 + bit);
    if (vm.manualDirtyLog) continue;
    slot.core.setDirtyWord(word, 0n);
    relog(vm, slot, word * 64, mask);
  }
  // Rights went away wherever a page was dirty.
  if (pages.length > 0 && !vm.manualDirtyLog) flushSlot(vm, slot);
  vm.settle();
  return pages;
}

/** Clears those of `pages` that lie in [first, first + count) and are dirty. `first` is a multiple of 64. */
export function clearDirtyLog(vm: Machine, slot: Memslot, first: number, count: number, pages: Iterable<number>): void {
  requireLog(slot);
  checkInteger(first, 0, slot.pages, "first page");
  checkInteger(count, 0, slot.pages, "count");
  const toEnd = first + count === slot.pages;
  if (first % 64 !== 0 || first + count > slot.pages || (count % 64 !== 0 && !toEnd)) {
    throw new ConfigError(`range ${first}+${count} does not fit a slot of ${slot.pages} pages in steps of 64`);
  }
  const masks = new Map<number, bigint>();
  for (const page of checkIterable(pages, "pages")) {
    checkInteger(page, 0, Number.MAX_SAFE_INTEGER, "page");
    if (page < first || page >= first + count) continue;
    const word = Math.floor(page / 64);
    masks.set(word, (masks.get(word) ?? 0n) | (1n << BigInt(page % 64)));
  }
  reserve(vm, slot);
  let cleared = false;
  for (const [word, wanted] of [...masks].sort(([a], [b]) => a - b)) {
    const dirty = slot.core.dirtyWord(word);
    const mask = wanted & dirty;
    if (mask === 0n) continue;
    slot.core.setDirtyWord(word, dirty & ~mask);
    relog(vm, slot, word * 64, mask);
    cleared = true;
  }
  if (cleared) flushSlot(vm, slot);
  vm.settle();
}
