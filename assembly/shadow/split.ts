/**
 * Splitting huge pages of nested guests before writes are logged by small pages (shadow_mmu_split_huge_page). Beside the
 * TDP MMU only their pages are in the rmaps; without it the kernel leaves splitting to the first write.
 */
import { Memslot, ShadowPage, Vcpu, Vm } from "../abi/records";
import {
  ROLE_ACCESS,
  ROLE_ACCESS_SHIFT,
  ROLE_DIRECT,
  ROLE_GUEST_MODE,
  ROLE_HAS_4_BYTE_GPTE,
  ROLE_INVALID,
} from "../abi/role";
import { EV_SPLIT_HUGE } from "../abi/shadow";
import { aliasBits, aliasOf, lowOfAlias } from "../pages/alias";
import { childRole } from "../pages/child-role";
import { emit, tracing } from "../pages/event";
import { flushGfns } from "../pages/flush";
import { pagesOf } from "../pages/iterator";
import {
  adDisabled,
  entryAccess,
  entryGfn,
  entryPointer,
  hostAddress,
  indexOf,
  levelOf,
  pageOf,
  parentsOf,
  spaceOf,
} from "../pages/page";
import { findSlot, ramInSlot, rmapHead } from "../pages/slot";
import { splitSpte, tableSpte } from "../spte/make";
import { isLarge, isLast, isPresent } from "../spte/predicates";
import { addLeaf } from "./leaf";
import { hasRoomToSplit } from "./page-limit";
import { rmapAdd, rmapFirst, rmapNext, rmapSptep } from "./rmap";
import { dropSpte } from "./update";

/** No memory, or no room under the page limit: what the event reports. */
// @ts-ignore: decorator
@inline const ENOSPC: i32 = -28;

/** First huge SPTE of `level` to be split that maps gfns [start, end), 0 for none. */
export function findHuge(vm: Vm, slot: Memslot, start: u64, end: u64, level: u32): usize {
  const last = rmapHead(slot, end - 1, level);
  for (let head = rmapHead(slot, start, level); head <= last; head += 4) {
    if (load<u32>(head) == 0) continue;
    for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
      const sptep = rmapSptep(cursor);
      if ((pageOf(vm, sptep).role & (ROLE_GUEST_MODE | ROLE_INVALID)) == ROLE_GUEST_MODE) return sptep;
    }
  }
  return 0;
}

/** The gfn after those that a huge SPTE maps. */
export function endOfHuge(vm: Vm, sptep: usize): u64 {
  const sp = pageOf(vm, sptep);
  return entryGfn(vm, sp, indexOf(sptep)) + pagesOf(levelOf(sp));
}

function report(vm: Vm, sptep: usize, spte: u64, errno: i32): void {
  const sp = pageOf(vm, sptep);
  if (tracing(vm)) emit(vm, EV_SPLIT_HUGE, levelOf(sp), <u32>errno, 0, entryGfn(vm, sp, indexOf(sptep)), spte, 0);
}

/** Notes in the request which page replaces a huge SPTE: a direct one. False where the page limit leaves no room. */
export function requestSplit(vcpu: Vcpu, sptep: usize): bool {
  const vm = vcpu.vm;
  if (!hasRoomToSplit(vm)) {
    report(vm, sptep, load<u64>(sptep), ENOSPC);
    return false;
  }
  const sp = pageOf(vm, sptep);
  const index = indexOf(sptep);
  vcpu.reqGfn = entryGfn(vm, sp, index);
  vcpu.reqRole = childRole(sp.role, index, true, accessOf(sp, index));
  vcpu.reqLow = lowOfAlias(aliasBehind(vm, sp, index));
  return true;
}

/** Alias bits of what a huge SPTE maps: those of its direct page, else those that L1's entry gives. */
function aliasBehind(vm: Vm, sp: ShadowPage, index: u32): u64 {
  const role = sp.role;
  if (role & ROLE_DIRECT) return aliasOf(sp);
  const slot = findSlot(vm, spaceOf(sp), sp.gfn);
  // Entries of four bytes cannot have such bits.
  if (vm.aliasMask == 0 || (role & ROLE_HAS_4_BYTE_GPTE) != 0 || slot == null) return 0;
  return aliasBits(vm, load<u64>(ramInSlot(slot, sp.gfn) + ((<usize>index) << 3)) >> 12);
}

/** Rights (ACC_* bits) that the guest's entry behind a leaf gave (kvm_mmu_page_get_access). */
function accessOf(sp: ShadowPage, index: u32): u32 {
  if (sp.role & ROLE_DIRECT) return (sp.role & ROLE_ACCESS) >> ROLE_ACCESS_SHIFT;
  return entryAccess(sp, index);
}

/** Replaces a huge SPTE by the page that was asked for, whose missing entries map the same memory. */
export function splitHuge(vcpu: Vcpu, slot: Memslot, sptep: usize): void {
  const vm = vcpu.vm;
  const sp = vcpu.reqPage;
  const huge = load<u64>(sptep);
  const role = sp.role;
  const access = (role & ROLE_ACCESS) >> ROLE_ACCESS_SHIFT;
  let flush = false;
  for (let index: u32 = 0; index < 512; index++) {
    const child = entryPointer(sp, index);
    const old = load<u64>(child);
    // The page served another huge page already; a table below it may lack some of the memory.
    if (isPresent(old)) {
      if (!isLast(old, levelOf(sp))) flush = true;
      continue;
    }
    store<u64>(child, splitSpte(vm, huge, role, index));
    addLeaf(vm, slot, sp, child, entryGfn(vm, sp, index), access);
  }
  if (isPresent(load<u64>(sptep)) && isLarge(load<u64>(sptep))) dropSpte(vm, sptep);
  // What is mapped anew may have been reachable through the huge page.
  if (flush) flushGfns(vm, sp.gfn, pagesOf(levelOf(sp) + 1));
  store<u64>(sptep, tableSpte(vm, hostAddress(vm, sp), adDisabled(sp)));
  rmapAdd(vm, sptep, parentsOf(sp));
  report(vm, sptep, huge, 0);
}
