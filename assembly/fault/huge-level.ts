/**
 * The level of a leaf: what guest, slot, host and the NX-huge-page mitigation allow (kvm_mmu_hugepage_adjust and
 * disallowed_hugepage_adjust). Classic and TDP MMU alike.
 */
import { PFERR_I } from "../abi/bits";
import { Vcpu } from "../abi/records";
import { EV_SPTE_REQUESTED, KERNEL_RULE_NX_OWN_TABLES } from "../abi/shadow";
import { PFN_NO_SLOT } from "../abi/spte";
import { emit, tracing } from "../pages/event";
import { pagesOf } from "../pages/iterator";
import { childOf } from "../pages/page";
import { logsWrites, mappingLevel } from "../pages/slot";
import { isLarge, isPresent } from "../spte/predicates";

/** Chooses the leaf's level by what guest, slot and host allow. */
export function adjustLevel(vcpu: Vcpu): void {
  const vm = vcpu.vm;
  const noHuge = vm.nxHuge != 0 && (vcpu.fError & PFERR_I) != 0;
  vcpu.fNoHuge = noHuge ? 1 : 0;
  const most = vcpu.fMaxLevel;
  const slot = vcpu.fSlot;
  const page = vcpu.fPfn;
  // Writes are logged by 4 KiB pages.
  if (most == 1 || page == PFN_NO_SLOT || slot == null || logsWrites(slot)) return;
  const level = mappingLevel(vm, slot, vcpu.fGfn, most);
  vcpu.fReqLevel = level;
  if (level == 1 || noHuge) return;
  vcpu.fGoalLevel = level;
  vcpu.fPfn = page & ~((pagesOf(level) << 12) - 1);
}

/** A table of small pages made because of the mitigation must not be replaced by a huge page: go one level down. */
export function keepSmall(vcpu: Vcpu, spte: u64, level: u32): void {
  if (level == 1 || level != vcpu.fGoalLevel || !isPresent(spte) || isLarge(spte)) return;
  const vm = vcpu.vm;
  if ((vm.rules & KERNEL_RULE_NX_OWN_TABLES) != 0 && childOf(vm, spte).forbidden == 0) return;
  const mask = (pagesOf(level) - pagesOf(level - 1)) << 12;
  vcpu.fPfn |= (vcpu.fGfn << 12) & mask;
  vcpu.fGoalLevel = level - 1;
}

export function requested(vcpu: Vcpu): void {
  const vm = vcpu.vm;
  if (!tracing(vm)) return;
  const level = vcpu.fGoalLevel;
  const gfn = vcpu.fGfn;
  const page = vcpu.fPfn | ((gfn & (pagesOf(level) - 1)) << 12);
  emit(vm, EV_SPTE_REQUESTED, level, 0, 0, gfn, page, 0);
}
