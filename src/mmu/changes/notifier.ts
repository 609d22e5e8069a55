/** The host's memory management tells what it does with pages (KVM's MMU notifier). */
import { ConfigError } from "../../errors.js";
import type { HostPage } from "../memory/host-pages.js";
import type { Memslot } from "../memory/memslots.js";
import { vmRecord } from "../memory/records.js";
import type { VirtualMachine } from "../vm.js";

/** What the core's `rangeApply` does to each rmap. */
export const RANGE = { zap: 0, age: 1, testAge: 2, protect: 3, clearDirty: 4, collapse: 5 } as const;

/** Calls `each` for the part of every slot that lies in the host-virtual range. */
function inRange(
  vm: VirtualMachine,
  start: bigint,
  end: bigint,
  each: (slot: Memslot, from: bigint, to: bigint) => void,
): boolean {
  let found = false;
  for (const space of [0, 1]) {
    for (const slot of vm.slots.slots) {
      if (slot.addressSpace !== space) continue;
      const slotEnd = slot.hva + (BigInt(slot.pages) << 12n);
      const low = start > slot.hva ? start : slot.hva;
      const high = end < slotEnd ? end : slotEnd;
      if (low >= high) continue;
      found = true;
      each(slot, slot.base + ((low - slot.hva) >> 12n), slot.base + ((high - slot.hva + 4095n) >> 12n));
    }
  }
  return found;
}

/** The host takes pages away (invalidate_range_start and _end); faults in progress on any page are retried. */
export function unmapRange(vm: VirtualMachine, start: bigint, end: bigint): void {
  const found = inRange(vm, start, end, (slot, from, to) => {
    if (vm.exports.rangeApply(vm.pointer, slot.pointer, from, to, 1, 3, RANGE.zap) !== 0)
      vm.exports.flushAll(vm.pointer);
    vm.hostPages.remove(slot, from, to);
  });
  if (found) endInvalidation(vm);
  vm.settle();
}

/** What a fault in progress has learnt from the host may be old: it is retried. */
function endInvalidation(vm: VirtualMachine): void {
  const completed = vmRecord.get32(vm.linear, vm.pointer, "INVALIDATE_SEQ");
  vmRecord.set32(vm.linear, vm.pointer, "INVALIDATE_SEQ", completed + 1);
}

/**
 * The host puts another small page behind an address, which must not be written before the next fault. The kernel's caller
 * surrounds this with the invalidation of the page; here that is included: a huge leaf over it goes, and faults in
 * progress are retried. Throws ConfigError with nothing changed.
 */
export function changePage(vm: VirtualMachine, hva: bigint, page: HostPage): void {
  vm.hostPages.check(page, hva);
  if (page.level !== 1) throw new ConfigError(`the changed page has level ${page.level}, expected 1; unmap huge ones`);
  const found = inRange(vm, hva, hva + 1n, (slot, gfn) => {
    const level = vm.exports.rangeChange(vm.pointer, slot.pointer, gfn, page.pfn << 12n, page.writable ? 1 : 0);
    // Of a large page that goes a TLB may hold any part.
    const pages = 1n << BigInt(9 * Math.max(level - 1, 0));
    if (level !== 0) vm.exports.flushRange(vm.pointer, gfn & ~(pages - 1n), pages);
    // Prefetching must not map the page that was there before.
    vm.hostPages.change(slot, gfn, page);
  });
  if (found) endInvalidation(vm);
  vm.settle();
}

/** True if a page of the range was accessed; RANGE.age forgets it. */
export function anyYoung(vm: VirtualMachine, start: bigint, end: bigint, what: number): boolean {
  let young = false;
  inRange(vm, start, end, (slot, from, to) => {
    if (vm.exports.rangeApply(vm.pointer, slot.pointer, from, to, 1, 3, what) !== 0) young = true;
  });
  return young;
}
