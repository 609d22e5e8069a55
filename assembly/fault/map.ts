/** Mapping a faulting gfn in the TDP MMU (kvm_tdp_mmu_map). All pages that it may need are in the pool. */
import { PFERR_W } from "../abi/bits";
import { Vcpu } from "../abi/records";
import { ROLE_LEVEL } from "../abi/role";
import { KERNEL_RULE_SPLIT_ON_FAULT, RET_PF_EMULATE, RET_PF_FIXED, RET_PF_RETRY, RET_PF_SPURIOUS } from "../abi/shadow";
import { ACC_WRITE } from "../abi/spte";
import { directRights } from "../pages/alias";
import { noteForbidden } from "../pages/counters";
import { emitMarkMmio, emitSetSpte, tracing } from "../pages/event";
import { flushGfns } from "../pages/flush";
import { nextEntry, pagesOf, rootEntry } from "../pages/iterator";
import { levelOf, pageOf, spaceOf, spteAddress } from "../pages/page";
import { slotGeneration } from "../pages/slot";
import { makeSpte, writeProtected } from "../shadow/leaf";
import { mmioSpte } from "../spte/make";
import { isLarge, isLast, isPresent, isWritable } from "../spte/predicates";
import { SHARED, changeEntry, linkTable, zapShared } from "../tdp/change";
import { splitInto } from "../tdp/huge";
import { takePage } from "../tdp/page";
import { adjustLevel, keepSmall, requested } from "./huge-level";

/** Installs the leaf; a RET_PF code. */
function installTarget(vcpu: Vcpu, sptep: usize, gfn: u64): u32 {
  const vm = vcpu.vm;
  const sp = pageOf(vm, sptep);
  const level = levelOf(sp);
  const slot = vcpu.fSlot;
  const old = load<u64>(sptep);
  const hostWritable = vcpu.fMapWritable != 0;
  const prefetch = vcpu.fPrefetch != 0;
  const page = vcpu.fPfn;
  const rights = directRights(vcpu);
  const spte =
    slot == null
      ? mmioSpte(vm, gfn, rights, slotGeneration(vcpu))
      : makeSpte(vcpu, sp, slot, rights, gfn, page, old, prefetch, true, hostWritable);
  let result = RET_PF_FIXED;
  if (spte == old) result = RET_PF_SPURIOUS;
  else {
    changeEntry(vm, spaceOf(sp), sptep, gfn, level, spte, SHARED);
    if (isPresent(old) && !isLast(old, level)) flushGfns(vm, gfn, pagesOf(level));
  }
  if (slot == null) {
    emitMarkMmio(vm, gfn, spte, spteAddress(vm, sptep));
    return RET_PF_EMULATE;
  }
  if (tracing(vm)) emitSetSpte(vm, level, gfn, spte, spteAddress(vm, sptep));
  const protectedNow = hostWritable && (rights & ACC_WRITE) != 0 && !isWritable(spte);
  return protectedNow && (vcpu.fError & PFERR_W) != 0 ? writeProtected(vm) : result;
}

/**
 * Makes the table below an entry, which maps indices `gfn` (a gfn with the alias bits of its address) and up. It stands
 * where a huge page was forbidden if the host's page is as large.
 */
function makeTable(vcpu: Vcpu, sptep: usize, gfn: u64, level: u32): void {
  const vm = vcpu.vm;
  const role = (pageOf(vm, sptep).role & ~ROLE_LEVEL) | (level - 1);
  const sp = takePage(vm, gfn, role, sptep);
  const old = load<u64>(sptep);
  // Where it is a huge leaf its memory stays mapped.
  if (isPresent(old)) splitInto(vm, sp, sptep, old, gfn, level);
  else linkTable(vm, sptep, gfn, level, sp);
  if (vcpu.fNoHuge != 0) noteForbidden(vm, sp, vcpu.fReqLevel >= level);
}

/** Maps the page of the fault in progress. */
export function mapTdp(vcpu: Vcpu): u32 {
  const vm = vcpu.vm;
  const root = vcpu.mmu.root;
  const address = vcpu.fAddress;
  const gfn = vcpu.fGfn;
  const nxHuge = vm.nxHuge != 0;
  adjustLevel(vcpu);
  requested(vcpu);
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    if (nxHuge) keepSmall(vcpu, load<u64>(sptep), level);
    const base = gfn & ~(pagesOf(level) - 1);
    if (level == vcpu.fGoalLevel) return installTarget(vcpu, sptep, base);
    const spte = load<u64>(sptep);
    const large = isPresent(spte) && isLarge(spte);
    const split = (vm.rules & KERNEL_RULE_SPLIT_ON_FAULT) != 0;
    if (large && !split) zapShared(vm, spaceOf(root), sptep, base, level);
    if (large || !isPresent(spte)) makeTable(vcpu, sptep, (address >> 12) & ~(pagesOf(level) - 1), level);
  }
  return RET_PF_RETRY;
}
