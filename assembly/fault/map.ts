/** Mapping a faulting gfn in the TDP MMU (kvm_tdp_mmu_map). All pages that it may need are in the pool. */
import { PFERR_W } from "../abi/bits";
import { ROLE_LEVEL } from "../abi/role";
import {
  MMU_ROOT,
  RET_PF_EMULATE,
  RET_PF_FIXED,
  RET_PF_RETRY,
  RET_PF_SPURIOUS,
  VCPU_F_ADDRESS,
  VCPU_F_ERROR,
  VCPU_F_GFN,
  VCPU_F_GOAL_LEVEL,
  VCPU_F_MAP_WRITABLE,
  VCPU_F_NO_HUGE,
  VCPU_F_PFN,
  VCPU_F_PREFETCH,
  VCPU_F_REQ_LEVEL,
  VCPU_F_SLOT,
  VCPU_MMU,
  VCPU_VM,
  VM_NX_HUGE,
} from "../abi/shadow";
import { ACC_WRITE } from "../abi/spte";
import { directRights } from "../pages/alias";
import { noteForbidden } from "../pages/counters";
import { emitMarkMmio, emitSetSpte, tracing } from "../pages/event";
import { flushGfns } from "../pages/flush";
import { nextEntry, pagesOf, rootEntry } from "../pages/iterator";
import { levelOf, pageOf, roleOf, spaceOf, spteAddress } from "../pages/page";
import { slotGeneration } from "../pages/slot";
import { makeSpte } from "../shadow/leaf";
import { mmioSpte } from "../spte/make";
import { isLarge, isLast, isPresent, isWritable } from "../spte/predicates";
import { SHARED, changeEntry, linkTable, zapShared } from "../tdp/change";
import { takePage } from "../tdp/page";
import { adjustLevel, keepSmall, requested } from "./huge-level";

/** Installs the leaf; a RET_PF code. */
function installTarget(vcpu: usize, sptep: usize, gfn: u64): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const sp = pageOf(vm, sptep);
  const level = levelOf(sp);
  const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
  const old = load<u64>(sptep);
  const hostWritable = load<u32>(vcpu, VCPU_F_MAP_WRITABLE) != 0;
  const prefetch = load<u32>(vcpu, VCPU_F_PREFETCH) != 0;
  const page = load<u64>(vcpu, VCPU_F_PFN);
  const rights = directRights(vcpu);
  const spte =
    slot == 0
      ? mmioSpte(vm, gfn, rights, slotGeneration(vcpu))
      : makeSpte(vcpu, sp, slot, rights, gfn, page, old, prefetch, true, hostWritable);
  let result = RET_PF_FIXED;
  if (spte == old) result = RET_PF_SPURIOUS;
  else {
    changeEntry(vm, spaceOf(sp), sptep, gfn, level, spte, SHARED);
    if (isPresent(old) && !isLast(old, level)) flushGfns(vm, gfn, pagesOf(level));
  }
  if (slot == 0) {
    emitMarkMmio(vm, gfn, spte, spteAddress(vm, sptep));
    return RET_PF_EMULATE;
  }
  if (tracing(vm)) emitSetSpte(vm, level, gfn, spte, spteAddress(vm, sptep));
  const protectedNow = hostWritable && (rights & ACC_WRITE) != 0 && !isWritable(spte);
  return protectedNow && (load<u32>(vcpu, VCPU_F_ERROR) & PFERR_W) != 0 ? RET_PF_EMULATE : result;
}

/**
 * Makes the table below an entry, which maps indices `gfn` (a gfn with the alias bits of its address) and up. It stands
 * where a huge page was forbidden if the host's page is as large.
 */
function makeTable(vcpu: usize, sptep: usize, gfn: u64, level: u32): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const role = (roleOf(pageOf(vm, sptep)) & ~ROLE_LEVEL) | (level - 1);
  const sp = takePage(vm, gfn, role, sptep);
  linkTable(vm, sptep, gfn, level, sp);
  if (load<u32>(vcpu, VCPU_F_NO_HUGE) != 0 && load<u32>(vcpu, VCPU_F_REQ_LEVEL) >= level) noteForbidden(vm, sp);
}

/** Maps the page of the fault in progress. */
export function mapTdp(vcpu: usize): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const root: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const gfn = load<u64>(vcpu, VCPU_F_GFN);
  const nxHuge = load<u32>(vm, VM_NX_HUGE) != 0;
  adjustLevel(vcpu);
  requested(vcpu);
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    if (nxHuge) keepSmall(vcpu, load<u64>(sptep), level);
    const base = gfn & ~(pagesOf(level) - 1);
    if (level == load<u32>(vcpu, VCPU_F_GOAL_LEVEL)) return installTarget(vcpu, sptep, base);
    const spte = load<u64>(sptep);
    if (isPresent(spte) && isLarge(spte)) zapShared(vm, spaceOf(root), sptep, base, level);
    if (!isPresent(load<u64>(sptep))) makeTable(vcpu, sptep, (address >> 12) & ~(pagesOf(level) - 1), level);
  }
  return RET_PF_RETRY;
}
