/**
 * The level of a leaf: what guest, slot, host and the NX-huge-page mitigation allow (kvm_mmu_hugepage_adjust and
 * disallowed_hugepage_adjust). Classic and TDP MMU alike.
 */
import { PFERR_I } from "../abi/bits";
import {
  EV_SPTE_REQUESTED,
  VCPU_F_ERROR,
  VCPU_F_GFN,
  VCPU_F_GOAL_LEVEL,
  VCPU_F_MAX_LEVEL,
  VCPU_F_NO_HUGE,
  VCPU_F_PFN,
  VCPU_F_REQ_LEVEL,
  VCPU_F_SLOT,
  VCPU_VM,
  VM_NX_HUGE,
} from "../abi/shadow";
import { PFN_NO_SLOT } from "../abi/spte";
import { emit, tracing } from "../pages/event";
import { pagesOf } from "../pages/iterator";
import { logsWrites, mappingLevel } from "../pages/slot";
import { isLarge, isPresent } from "../spte/predicates";

/** Chooses the leaf's level by what guest, slot and host allow. */
export function adjustLevel(vcpu: usize): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const noHuge = load<u32>(vm, VM_NX_HUGE) != 0 && (load<u32>(vcpu, VCPU_F_ERROR) & PFERR_I) != 0;
  store<u32>(vcpu, noHuge ? 1 : 0, VCPU_F_NO_HUGE);
  const most = load<u32>(vcpu, VCPU_F_MAX_LEVEL);
  const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
  const page = load<u64>(vcpu, VCPU_F_PFN);
  // Writes are logged by 4 KiB pages.
  if (most == 1 || page == PFN_NO_SLOT || slot == 0 || logsWrites(slot)) return;
  const level = mappingLevel(vm, slot, load<u64>(vcpu, VCPU_F_GFN), most);
  store<u32>(vcpu, level, VCPU_F_REQ_LEVEL);
  if (level == 1 || noHuge) return;
  store<u32>(vcpu, level, VCPU_F_GOAL_LEVEL);
  store<u64>(vcpu, page & ~((pagesOf(level) << 12) - 1), VCPU_F_PFN);
}

/** A table of small pages made because of the mitigation must not be replaced by a huge page: go one level down. */
export function keepSmall(vcpu: usize, spte: u64, level: u32): void {
  if (level == 1 || level != load<u32>(vcpu, VCPU_F_GOAL_LEVEL) || !isPresent(spte) || isLarge(spte)) return;
  const mask = (pagesOf(level) - pagesOf(level - 1)) << 12;
  store<u64>(vcpu, load<u64>(vcpu, VCPU_F_PFN) | ((load<u64>(vcpu, VCPU_F_GFN) << 12) & mask), VCPU_F_PFN);
  store<u32>(vcpu, level - 1, VCPU_F_GOAL_LEVEL);
}

export function requested(vcpu: usize): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  if (!tracing(vm)) return;
  const level = load<u32>(vcpu, VCPU_F_GOAL_LEVEL);
  const gfn = load<u64>(vcpu, VCPU_F_GFN);
  const page = load<u64>(vcpu, VCPU_F_PFN) | ((gfn & (pagesOf(level) - 1)) << 12);
  emit(vm, EV_SPTE_REQUESTED, level, 0, 0, gfn, page, 0);
}
