/** Operations over ranges of a memslot's gfns: the host notifier's, and dirty logging's. */
import { Memslot, Vm } from "../abi/records";
import { ROLE_DIRECT } from "../abi/role";
import { RANGE_AGE, RANGE_CLEAR_DIRTY, RANGE_COLLAPSE, RANGE_PROTECT, RANGE_ZAP } from "../abi/shadow";
import { levelOf, pageOf } from "../pages/page";
import { mappingLevel, rmapHead } from "../pages/slot";
import { rmapFirst, rmapNext, rmapSptep } from "../shadow/rmap";
import { ageSpte, zapOne, zapRmap } from "../shadow/update";
import { clearDirtyRmap, protectGfn, protectRmap } from "../shadow/write-protect";
import { checkedLeaf } from "../spte/check";
import { changedPageSpte } from "../spte/make";
import { isAccessed } from "../spte/predicates";
import { cleanLeaves, cleanMasked, protectLeaves } from "../tdp/dirty";
import { collapseTables } from "../tdp/huge";
import { hasTdp } from "../tdp/page";
import { ageLeaves, changeLeaf, zapLeaves } from "../tdp/range";

// What a range operation does to each rmap.

/**
 * Zaps small leaves of direct pages where the host now allows a larger page: the next fault makes one.
 * A page that shadows a guest table is limited by the guest's own page size and stays.
 */
function collapse(vm: Vm, slot: Memslot, head: usize): bool {
  let flush = false;
  for (let cursor = rmapFirst(head); cursor != 0;) {
    const sptep = rmapSptep(cursor);
    const sp = pageOf(vm, sptep);
    const inside = sp.gfn - slot.base < <u64>slot.pages;
    if ((sp.role & ROLE_DIRECT) != 0 && inside && levelOf(sp) < mappingLevel(vm, slot, sp.gfn, 3)) {
      zapOne(vm, head, sptep);
      flush = true;
      cursor = rmapFirst(head);
    } else cursor = rmapNext(cursor);
  }
  return flush;
}

function apply(vm: Vm, slot: Memslot, head: usize, what: u32): bool {
  if (load<u32>(head) == 0) return false;
  if (what == RANGE_ZAP) return zapRmap(vm, head);
  if (what == RANGE_PROTECT) return protectRmap(vm, head, false);
  if (what == RANGE_CLEAR_DIRTY) return clearDirtyRmap(vm, head);
  if (what == RANGE_COLLAPSE) return collapse(vm, slot, head);
  let young = false;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    const sptep = rmapSptep(cursor);
    if (what == RANGE_AGE ? ageSpte(vm, sptep) : isAccessed(vm, load<u64>(sptep))) young = true;
  }
  return young;
}

/** The same for the TDP MMU's leaves, which are in no rmap. */
function applyTdp(vm: Vm, slot: Memslot, start: u64, end: u64, from: u32, what: u32): bool {
  const space = slot.space;
  if (what == RANGE_ZAP) return zapLeaves(vm, space, start, end);
  if (what == RANGE_PROTECT) return protectLeaves(vm, space, start, end, from);
  if (what == RANGE_CLEAR_DIRTY) return cleanLeaves(vm, space, start, end);
  if (what != RANGE_COLLAPSE) return ageLeaves(vm, space, start, end, what == RANGE_AGE);
  collapseTables(vm, space, slot);
  return true;
}

/** Applies `what` to the rmaps of levels `from` to `to` that cover gfns [start, end) of a slot. */
export function forRange(vm: Vm, slot: Memslot, start: u64, end: u64, from: u32, to: u32, what: u32): bool {
  let result = false;
  for (let level = from; level <= to; level++) {
    const last = rmapHead(slot, end - 1, level);
    for (let head = rmapHead(slot, start, level); head <= last; head += 4) {
      if (apply(vm, slot, head, what)) result = true;
    }
  }
  if (hasTdp(vm) && applyTdp(vm, slot, start, end, from, what)) result = true;
  return result;
}

/**
 * The host put another page (`page`, an address) behind `gfn`: zap where it is writable, else change the SPTEs. A huge leaf
 * maps more than that page and is zapped: the kernel never finds one here, because its caller has invalidated the page
 * before (kvm_mmu_notifier_change_pte). Returns the level of the largest page that was mapped there, 0 for none.
 */
export function changePage(vm: Vm, slot: Memslot, gfn: u64, page: u64, writable: u32): u32 {
  let found: u32 = 0;
  for (let level: u32 = 1; level <= 3; level++) {
    const head = rmapHead(slot, gfn, level);
    if (load<u32>(head) == 0) continue;
    found = level;
    if (writable != 0 || level > 1) {
      zapRmap(vm, head);
      continue;
    }
    for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
      const sptep = rmapSptep(cursor);
      store<u64>(sptep, checkedLeaf(vm, changedPageSpte(vm, load<u64>(sptep), page)));
    }
  }
  if (!hasTdp(vm)) return found;
  return max<u32>(found, changeLeaf(vm, slot.space, gfn, page, writable != 0));
}

/** Starts a new round of dirty logging for the pages of `mask` from `gfn` on. */
export function relogMasked(vm: Vm, slot: Memslot, gfn: u64, mask: u64, clearDirty: u32): void {
  if (hasTdp(vm)) cleanMasked(vm, slot.space, gfn, mask, clearDirty == 0);
  while (mask != 0) {
    const head = rmapHead(slot, gfn + ctz<u64>(mask), 1);
    if (clearDirty != 0) clearDirtyRmap(vm, head);
    else protectRmap(vm, head, false);
    mask &= mask - 1;
  }
}

/** Write-protects huge pages over `gfn` so that the first write splits them. */
export function protectHuge(vm: Vm, slot: Memslot, gfn: u64): bool {
  return protectGfn(vm, slot, gfn, 2);
}
