/** The limit on shadow pages: the oldest go where there is no room (make_mmu_pages_available). */
import { Vm } from "../abi/records";
import { ZAPPED_OTHERS } from "../abi/shadow";
import { pageOfLink } from "../pages/list";
import { isAboveGuest } from "../pages/page";
import { commitZap, isPartOfRoot, prepareZap } from "./zap";

/** Pages that a fault may need, and pages to free at once when fewer are left. */
// @ts-ignore: decorator
@inline const MIN_FREE: u32 = 5;
// @ts-ignore: decorator
@inline const REFILL: u32 = 25;

/** Zaps pages in the order of their making until `wanted` are gone; roots in use are left. */
export function zapOldest(vm: Vm, wanted: u32): u32 {
  const head = vm.active;
  let total: u32 = 0;
  for (let link = head.previous; link != head;) {
    const sp = pageOfLink(link);
    link = link.previous;
    if (sp.rootCount != 0 || isAboveGuest(sp) || isPartOfRoot(vm, sp)) continue;
    const zapped = prepareZap(vm, sp);
    total += zapped & ~ZAPPED_OTHERS;
    if (total >= wanted) break;
    // Children were zapped as well: the neighbour in the list may be one of them.
    if (zapped & ZAPPED_OTHERS) link = head.previous;
  }
  commitZap(vm);
  vm.recycled += total;
  return total;
}

// @ts-ignore: decorator
@inline export function available(vm: Vm): u32 {
  const most = vm.max;
  const used = vm.used;
  return most > used ? most - used : 0;
}

/** The limit leaves room for the pages of one fault. */
// @ts-ignore: decorator
@inline export function hasRoom(vm: Vm): bool {
  return available(vm) >= MIN_FREE;
}

/** A huge page may be split: more pages may be made than a fault may need (KVM_MIN_FREE_MMU_PAGES). */
export function hasRoomToSplit(vm: Vm): bool {
  return available(vm) > MIN_FREE;
}

/** Makes room for the pages of one fault; false where the limit leaves no page at all. */
export function makeRoom(vm: Vm): bool {
  const free = available(vm);
  if (free >= MIN_FREE) return true;
  zapOldest(vm, REFILL - free);
  return available(vm) != 0;
}

/** Sets the limit on shadow pages, zapping what exceeds it. */
export function setLimit(vm: Vm, limit: u32): void {
  const used = vm.used;
  if (used > limit) {
    zapOldest(vm, used - limit);
    limit = vm.used;
  }
  vm.max = limit;
}
