/**
 * Every change of a TDP entry goes through here: it is traced, a table that it cuts off is taken apart, and a page that
 * becomes writable is logged (handle_changed_spte and its callers in arch/x86/kvm/mmu/tdp_mmu.c).
 *
 * The kernel makes some changes while other threads may handle faults (`SHARED`): a table that is cut off then gets
 * the removed-SPTE marker in all its entries, elsewhere only in those that are present.
 */
import { ShadowPage, Vm } from "../abi/records";
import { EV_PREPARE_ZAP, EV_TDP_CHANGED, KERNEL_RULE_ZAP_AT_ONCE } from "../abi/shadow";
import { SPTE_REMOVED } from "../abi/spte";
import { plainGfn } from "../pages/alias";
import { broken } from "../pages/counters";
import { emit, emitPage, tracing } from "../pages/event";
import { flushGfns } from "../pages/flush";
import { pagesOf } from "../pages/iterator";
import { listAdd } from "../pages/list";
import { adDisabled, childTable, entryPointer, hostAddress, levelOf, pageOf, spaceOf } from "../pages/page";
import { findSlot, markDirty } from "../pages/slot";
import { checkedLeaf } from "../spte/check";
import { tableSpte } from "../spte/make";
import { addressOf, isLast, isMmio, isPresent, isWritable } from "../spte/predicates";
import { iterGfn, iterLevel, iterOld, iterSpace, iterSptep } from "./iterator";
import { freePage, tdpOf } from "./page";

/** Other threads may be handling faults. */
// @ts-ignore: decorator
@inline export const SHARED: bool = true;
/** Nobody else uses the tables. */
// @ts-ignore: decorator
@inline export const EXCLUSIVE: bool = false;

/** An entry whose table is being taken away, or that is about to be zapped. */
// @ts-ignore: decorator
@inline function frozen(vm: Vm): u64 {
  return vm.empty | SPTE_REMOVED;
}

/** Takes a table apart that no entry leads to any more; tables below it too. */
function removeTable(vm: Vm, table: usize, shared: bool): void {
  const sp = pageOf(vm, table);
  const level = levelOf(sp);
  const gfn = sp.gfn;
  const space = spaceOf(sp);
  emitPage(vm, EV_PREPARE_ZAP, sp, 0);
  for (let index: u32 = 0; index < 512; index++) {
    const sptep = entryPointer(sp, index);
    const old = load<u64>(sptep);
    if (!shared && !isPresent(old)) continue;
    store<u64>(sptep, frozen(vm));
    changed(vm, space, gfn + <u64>index * pagesOf(level), level, old, frozen(vm), shared);
  }
  freePage(vm, sp);
}

/** What follows from an entry's change from `old` to `spte`. */
function changed(vm: Vm, space: u32, gfn: u64, level: u32, old: u64, spte: u64, shared: bool): void {
  if (old == spte) return;
  if (tracing(vm)) emit(vm, EV_TDP_CHANGED, level, space, 0, plainGfn(vm, gfn), old, spte);
  const wasPresent = isPresent(old);
  const present = isPresent(spte);
  if (!wasPresent && !present) {
    // Nothing is mapped before or after: only MMIO entries and the marker may do that.
    if (!isMmio(vm, old) && !isMmio(vm, spte) && spte != frozen(vm)) broken(vm);
    return;
  }
  const wasLeaf = wasPresent && isLast(old, level);
  const leaf = present && isLast(spte, level);
  // A mapping is zapped before another page takes its place.
  if (wasLeaf && leaf && addressOf(vm, old) != addressOf(vm, spte)) broken(vm);
  if (leaf) checkedLeaf(vm, spte);
  if (wasPresent && !wasLeaf && (leaf || !present)) removeTable(vm, childTable(old), shared);
}

/** Changes an entry without logging the page; the caller knows whether it is dirty. */
export function changeEntry(vm: Vm, space: u32, sptep: usize, gfn: u64, level: u32, spte: u64, shared: bool): void {
  const old = load<u64>(sptep);
  store<u64>(sptep, spte);
  changed(vm, space, gfn, level, old, spte, shared);
}

/** Changes the iterator's entry. */
export function setIterated(vm: Vm, spte: u64, shared: bool): void {
  const tdp = tdpOf(vm);
  changeEntry(vm, iterSpace(tdp), iterSptep(tdp), iterGfn(tdp), iterLevel(tdp), spte, shared);
}

/** Changes the iterator's entry, and logs the page where it becomes writable. */
export function setLogged(vm: Vm, spte: u64): void {
  const tdp = tdpOf(vm);
  const old = iterOld(tdp);
  setIterated(vm, spte, EXCLUSIVE);
  if (iterLevel(tdp) > 1 || !isWritable(spte)) return;
  if (isWritable(old) && addressOf(vm, old) == addressOf(vm, spte)) return;
  markDirty(findSlot(vm, iterSpace(tdp), iterGfn(tdp)), iterGfn(tdp));
}

/** Zaps an entry while faults may be handled: the marker keeps it from becoming present before TLBs are flushed. */
export function zapShared(vm: Vm, space: u32, sptep: usize, gfn: u64, level: u32): void {
  if (vm.rules & KERNEL_RULE_ZAP_AT_ONCE) {
    const old = load<u64>(sptep);
    flushGfns(vm, plainGfn(vm, gfn), pagesOf(level));
    store<u64>(sptep, vm.empty);
    changed(vm, space, gfn, level, old, vm.empty, SHARED);
    return;
  }
  changeEntry(vm, space, sptep, gfn, level, frozen(vm), SHARED);
  flushGfns(vm, plainGfn(vm, gfn), pagesOf(level));
  store<u64>(sptep, vm.empty);
}

/** Lets an entry lead to the table of `sp`. */
export function linkTable(vm: Vm, sptep: usize, gfn: u64, level: u32, sp: ShadowPage): void {
  const spte = tableSpte(vm, hostAddress(vm, sp), adDisabled(sp));
  changeEntry(vm, spaceOf(sp), sptep, gfn, level, spte, SHARED);
  listAdd(sp.link, tdpOf(vm).pages);
}
