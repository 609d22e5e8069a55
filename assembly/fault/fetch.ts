/**
 * The shadow walk of a fault: making the tables down to the leaf, then the leaf (FNAME(fetch) and direct_map).
 * Where a page is wanted it returns NEED_PAGE and is called again with the page; `fLevel` and `fSptep` keep the place.
 */
import { FEATURE_LIVE_PDPTES } from "../abi/codes";
import { Mmu, ShadowPage, Vcpu, Vm } from "../abi/records";
import { ROLE_LEVEL_PROMOTED } from "../abi/role";
import {
  KERNEL_RULE_NX_EVERY_PAGE,
  NEED_PAGE,
  RET_PF_RETRY,
  RET_PF_SPURIOUS,
  STAGE_DIRECT,
  STAGE_TABLE,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { readGpte } from "../guest/gpte";
import { aliasBits, directRights } from "../pages/alias";
import { broken, noteForbidden } from "../pages/counters";
import { entryAt, pagesOf, rootEntry } from "../pages/iterator";
import { levelOf, pageOf } from "../pages/page";
import { ramOf } from "../pages/slot";
import { installLeaf } from "../shadow/leaf";
import { linkPage, linkedChild, validateDirect } from "../shadow/make-page";
import { prefetchDirectFault, prefetchFault } from "../shadow/prefetch";
import { syncChildren } from "../shadow/sync";
import { adjustLevel, keepSmall, requested } from "./huge-level";

/** The highest level whose entries are memory: PDPTEs that were latched with CR3 are none. */
// @ts-ignore: decorator
@inline function topLevel(mmu: Mmu): u32 {
  const guestLevel = mmu.guestLevel;
  return guestLevel == 3 && !(mmu.space.features & FEATURE_LIVE_PDPTES) ? 2 : guestLevel;
}

/** The guest entry of a level is no longer what the walk read. */
function gpteChanged(vcpu: Vcpu, mmu: Mmu, level: u32): bool {
  const i = level - 1;
  const gpa = vcpu.gwPteGpa(i);
  const ram = ramOf(vcpu, gpa >> 12);
  return ram == 0 || readGpte(mmu, ram + <usize>(gpa & 0xfff)) != vcpu.gwPte(i);
}

function wait(vcpu: Vcpu, stage: u32, sptep: usize, level: u32): u32 {
  vcpu.fStage = stage;
  vcpu.fSptep = sptep;
  vcpu.fLevel = level;
  return NEED_PAGE;
}

/** In direct tables that stand for no second stage 6.1 does not note where a huge page was forbidden. */
function notes(vm: Vm, shadows: bool): bool {
  return shadows || vm.tdp != 0 || (vm.rules & KERNEL_RULE_NX_EVERY_PAGE) != 0;
}

/** Tables that the guest does not have: below a guest's large page, or in a direct context. Then the leaf. */
function fetchDirect(
  vcpu: Vcpu,
  parent: ShadowPage,
  sptep: usize,
  level: u32,
  resumed: bool,
  shadows: bool,
  access: u32,
): u32 {
  const vm = vcpu.vm;
  const address = vcpu.fAddress;
  const gfn = vcpu.fGfn;
  const nxHuge = vm.nxHuge != 0;
  while (level != 0) {
    let sp: ShadowPage;
    if (resumed) {
      sp = vcpu.reqPage;
      linkPage(vm, sptep, sp);
      if (vcpu.fNoHuge != 0 && notes(vm, shadows)) noteForbidden(vm, sp, vcpu.fReqLevel >= level);
      resumed = false;
    } else {
      if (shadows) parent.flood = 0;
      if (nxHuge) keepSmall(vcpu, load<u64>(sptep), level);
      const base = gfn & ~(pagesOf(level) - 1);
      if (level == vcpu.fGoalLevel) {
        const slot = vcpu.fSlot;
        const result = installLeaf(vcpu, slot, parent, sptep, access, base, vcpu.fPfn, true);
        if (result == RET_PF_SPURIOUS) return result;
        if (shadows) prefetchFault(vcpu, parent, sptep);
        else prefetchDirectFault(vcpu, parent, sptep);
        return result;
      }
      if (shadows) validateDirect(vm, sptep, access);
      // Addresses of L1's have alias bits: the fault's below a direct root, else those that L1's leaf gives.
      const gpa = shadows ? vcpu.gwGpa : address;
      const alias = aliasBits(vm, (gpa >> 12) & ~(pagesOf(level) - 1));
      const child = linkedChild(vcpu, parent, sptep, base, alias, true, shadows ? access : ACC_ALL);
      if (child == null) return wait(vcpu, STAGE_DIRECT, sptep, level);
      sp = child;
    }
    parent = sp;
    level--;
    sptep = entryAt(sp.spt, address, level);
  }
  broken(vm);
  return RET_PF_RETRY;
}

/**
 * Tables that shadow the guest's, down to the level of the guest's leaf; then what lies below. `waited`: the host did
 * something since the guest walk, so the guest's entries may have changed.
 */
function fetchTables(vcpu: Vcpu, parent: ShadowPage, sptep: usize, level: u32, resumed: bool, waited: bool): u32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const address = vcpu.fAddress;
  const last = vcpu.gwLevel;
  const top = topLevel(mmu);
  while (level > last) {
    const i = level - 2;
    let sp: ShadowPage;
    if (!resumed) {
      parent.flood = 0;
      // A promoted page has no guest entry behind it: the page below shadows the same table, with all rights.
      const promoted = (parent.role & ROLE_LEVEL_PROMOTED) != 0;
      const gfn = promoted ? parent.gfn : vcpu.gwTableGfn(i);
      const access = promoted ? ACC_ALL : vcpu.gwPtAccess(i);
      const child = linkedChild(vcpu, parent, sptep, gfn, 0, false, access);
      if (child == null) return wait(vcpu, STAGE_TABLE, sptep, level);
      sp = child;
    } else {
      // The guest need not flush when an entry becomes present, so what lies below is synchronised before it is linked.
      sp = vcpu.reqPage;
      if (sp.unsyncChildren != 0) syncChildren(vcpu, sp);
    }
    // The table is write-protected only now: is the entry still what the walk saw?
    const below = level - 1;
    if (waited && below <= top && gpteChanged(vcpu, mmu, below)) return RET_PF_RETRY;
    if (resumed) linkPage(vm, sptep, sp);
    resumed = false;
    parent = sp;
    level--;
    sptep = entryAt(sp.spt, address, level);
  }
  adjustLevel(vcpu);
  requested(vcpu);
  return fetchDirect(vcpu, parent, sptep, level, false, true, vcpu.gwPteAccess);
}

/** After the guest walk of a shadowing context. */
export function fetch(vcpu: Vcpu, waited: bool): u32 {
  const mmu = vcpu.mmu;
  if (waited && gpteChanged(vcpu, mmu, topLevel(mmu))) return RET_PF_RETRY;
  const root = mmu.root;
  return fetchTables(vcpu, root, rootEntry(root, vcpu.fAddress), levelOf(root), false, waited);
}

/** Maps an address in a direct context. */
export function mapDirect(vcpu: Vcpu): u32 {
  const root = vcpu.mmu.root;
  adjustLevel(vcpu);
  requested(vcpu);
  const sptep = rootEntry(root, vcpu.fAddress);
  return fetchDirect(vcpu, root, sptep, levelOf(root), false, false, directRights(vcpu));
}

/** Goes on with the page in `reqPage`. */
export function fetchResume(vcpu: Vcpu, shadows: bool): u32 {
  const sptep = vcpu.fSptep;
  const level = vcpu.fLevel;
  const parent = pageOf(vcpu.vm, sptep);
  if (vcpu.fStage == STAGE_TABLE) return fetchTables(vcpu, parent, sptep, level, true, true);
  const access = shadows ? vcpu.gwPteAccess : directRights(vcpu);
  return fetchDirect(vcpu, parent, sptep, level, true, shadows, access);
}
