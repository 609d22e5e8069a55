/** The host's memory management tells what it does with pages (KVM's MMU notifier). */

import { SHADOW_CODES } from "../../abi/shadow.js";
import { ConfigError } from "../../errors.js";
import type { HostPage } from "../config/config.js";
import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";

const { RANGE_ZAP } = SHADOW_CODES;
const PAGE_BYTES = 4096n;
const PAGE_MASK = ~(PAGE_BYTES - 1n);

/** Calls `each` for the part of every slot that lies in the host-virtual range. */
function inRange(
  vm: Machine,
  start: bigint,
  end: bigint,
  each: (slot: Memslot, from: bigint, to: bigint) => void,
): boolean {
  let found = false;
  // The kernel finds them in the order of their addresses (kvm_for_each_memslot_in_hva_range).
  const slots = [...vm.slots.slots].sort((a, b) => (a.hva < b.hva ? -1 : a.hva > b.hva ? 1 : 0));
  for (const space of [0, 1]) {
    for (const slot of slots) {
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
export function unmapRange(vm: Machine, start: bigint, end: bigint): void {
  const found = inRange(vm, start, end, (slot, from, to) => {
    if (vm.core.forRange(slot.core, from, to, 1, 3, RANGE_ZAP) !== 0) vm.core.flushRemote();
    vm.hostPages.remove(slot, from, to);
  });
  if (found) endInvalidation(vm);
  vm.settle();
}

/** What a fault in progress has learnt from the host may be old: it is retried. */
function endInvalidation(vm: Machine): void {
  vm.core.vm.invalidateSeq++;
}

/**
 * The host puts another small page behind an address, which must not be written before the next fault. The kernel's caller
 * surrounds this with the invalidation of the page; here that is included: a huge leaf over it goes, and faults in
 * progress are retried. Throws ConfigError with nothing changed.
 */
export function changePage(vm: Machine, hva: bigint, page: HostPage): void {
  vm.hostPages.check(page, hva);
  if (page.level !== 1) throw new ConfigError(`the changed page has level ${page.level}, expected 1; unmap huge ones`);
  if (vm.has("unmap-only")) {
    const start = hva & PAGE_MASK;
    unmapRange(vm, start, start + PAGE_BYTES);
    inRange(vm, hva, hva + 1n, (slot, gfn) => vm.hostPages.change(slot, gfn, page));
    return;
  }
  const found = inRange(vm, hva, hva + 1n, (slot, gfn) => {
    const level = vm.core.changePage(slot.core, gfn, page.pfn << 12n, page.writable);
    // Of a large page that goes a TLB may hold any part.
    const pages = 1n << BigInt(9 * Math.max(level - 1, 0));
    if (level !== 0) vm.core.flushGfns(gfn & ~(pages - 1n), pages);
    // Prefetching must not map the page that was there before.
    vm.hostPages.change(slot, gfn, page);
  });
  if (found) endInvalidation(vm);
  vm.settle();
}

/** True if a page of the range was accessed; RANGE_AGE forgets it. */
export function anyYoung(vm: Machine, start: bigint, end: bigint, what: number): boolean {
  let young = false;
  inRange(vm, start, end, (slot, from, to) => {
    if (vm.core.forRange(slot.core, from, to, 1, 3, what) !== 0) young = true;
  });
  return young;
}
