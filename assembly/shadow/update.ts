/** Changing an SPTE in place, and dropping a leaf together with its rmap entry. */
import { Vm } from "../abi/records";
import { broken } from "../pages/counters";
import { emptyEntry, entryGfn, indexOf, levelOf, pageOf, spaceOf } from "../pages/page";
import { findSlot, rmapHead } from "../pages/slot";
import { checkedLeaf } from "../spte/check";
import { trackAccess } from "../spte/make";
import { adEnabled, addressOf, isAccessed, isDirty, isMmuWritable, isPresent, isWritable } from "../spte/predicates";
import { rmapClear, rmapFirst, rmapNext, rmapRemove, rmapSptep } from "./rmap";

/**
 * Replaces a leaf that maps the same page. Returns whether TLBs have to be flushed: a translation that was MMU-writable
 * is now read-only, or an accessed or dirty bit went away (mmu_spte_update).
 */
export function updateSpte(vm: Vm, sptep: usize, spte: u64): bool {
  const old = load<u64>(sptep);
  store<u64>(sptep, checkedLeaf(vm, spte));
  if (!isPresent(old)) return false;
  if (addressOf(vm, old) != addressOf(vm, spte)) broken(vm);
  if (isMmuWritable(vm, old) && !isWritable(spte)) return true;
  if (isAccessed(vm, old) && !isAccessed(vm, spte)) return true;
  return isDirty(vm, old) && !isDirty(vm, spte);
}

/** Clears an SPTE that has no rmap entry: of an upper level, or MMIO. */
// @ts-ignore: decorator
@inline export function clearSpte(vm: Vm, sptep: usize): void {
  store<u64>(sptep, emptyEntry(vm, pageOf(vm, sptep)));
}

function rmapHeadOf(vm: Vm, sptep: usize): usize {
  const sp = pageOf(vm, sptep);
  const gfn = entryGfn(vm, sp, indexOf(sptep));
  // Zapping runs without a vCPU: the role says which address space the page belongs to.
  const slot = findSlot(vm, spaceOf(sp), gfn);
  return slot == null ? 0 : rmapHead(slot, gfn, levelOf(sp));
}

/** Clears a leaf and takes it out of its rmap; MMIO and empty entries are cleared alike. */
export function dropSpte(vm: Vm, sptep: usize): void {
  const old = load<u64>(sptep);
  store<u64>(sptep, vm.empty);
  if (!isPresent(old)) return;
  const head = rmapHeadOf(vm, sptep);
  if (head == 0) broken(vm);
  else rmapRemove(vm, sptep, head);
}

/** Clears one leaf of a known rmap. */
export function zapOne(vm: Vm, head: usize, sptep: usize): void {
  store<u64>(sptep, vm.empty);
  rmapRemove(vm, sptep, head);
}

/** Clears every leaf of an rmap; returns whether there was one. */
export function zapRmap(vm: Vm, head: usize): bool {
  if (load<u32>(head) == 0) return false;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) store<u64>(rmapSptep(cursor), vm.empty);
  rmapClear(vm, head);
  return true;
}

/** Reads and resets the accessed state of a leaf. */
export function ageSpte(vm: Vm, sptep: usize): bool {
  const spte = load<u64>(sptep);
  if (!isAccessed(vm, spte)) return false;
  if (adEnabled(spte)) store<u64>(sptep, spte & ~vm.accessed);
  else store<u64>(sptep, checkedLeaf(vm, trackAccess(vm, spte)));
  return true;
}
