/**
 * The shadow walk of a fault: making the tables down to the leaf, then the leaf (FNAME(fetch) and direct_map).
 * Where a page is wanted it returns NEED_PAGE and is called again with the page; F_LEVEL and F_SPTEP keep the place.
 */
import { ROLE_LEVEL_PROMOTED } from "../abi/role";
import {
  MMU_GUEST_LEVEL,
  MMU_ROOT,
  NEED_PAGE,
  RET_PF_RETRY,
  RET_PF_SPURIOUS,
  SP_FLOOD,
  SP_UNSYNC_CHILDREN,
  STAGE_DIRECT,
  STAGE_TABLE,
  VCPU_F_ADDRESS,
  VCPU_F_GFN,
  VCPU_F_GOAL_LEVEL,
  VCPU_F_LEVEL,
  VCPU_F_NO_HUGE,
  VCPU_F_PFN,
  VCPU_F_REQ_LEVEL,
  VCPU_F_SLOT,
  VCPU_F_SPTEP,
  VCPU_F_STAGE,
  VCPU_GW_GPA,
  VCPU_GW_LEVEL,
  VCPU_GW_PTE,
  VCPU_GW_PTE_ACCESS,
  VCPU_GW_PTE_GPA,
  VCPU_GW_PT_ACCESS,
  VCPU_GW_TABLE_GFN,
  VCPU_MMU,
  VCPU_REQ_PAGE,
  VCPU_VM,
  VM_NX_HUGE,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { readGpte } from "../guest/gpte";
import { aliasBits, directRights } from "../pages/alias";
import { broken, noteForbidden } from "../pages/counters";
import { entryAt, pagesOf, rootEntry } from "../pages/iterator";
import { gfnOf, levelOf, pageOf, roleOf, tableOf } from "../pages/page";
import { ramOf } from "../pages/slot";
import { installLeaf } from "../shadow/leaf";
import { linkPage, linkedChild, validateDirect } from "../shadow/make-page";
import { prefetchDirectFault, prefetchFault } from "../shadow/prefetch";
import { syncChildren } from "../shadow/sync";
import { adjustLevel, keepSmall, requested } from "./huge-level";

/** The guest entry of a level is no longer what the walk read. */
function gpteChanged(vcpu: usize, mmu: usize, level: u32): bool {
  const i = <usize>(level - 1);
  const gpa = load<u64>(vcpu + (i << 3), VCPU_GW_PTE_GPA);
  const ram = ramOf(vcpu, gpa >> 12);
  return ram == 0 || readGpte(mmu, ram + <usize>(gpa & 0xfff)) != load<u64>(vcpu + (i << 3), VCPU_GW_PTE);
}

function wait(vcpu: usize, stage: u32, sptep: usize, level: u32): u32 {
  store<u32>(vcpu, stage, VCPU_F_STAGE);
  store<u32>(vcpu, <u32>sptep, VCPU_F_SPTEP);
  store<u32>(vcpu, level, VCPU_F_LEVEL);
  return NEED_PAGE;
}

/** Tables that the guest does not have: below a guest's large page, or in a direct context. Then the leaf. */
function fetchDirect(
  vcpu: usize,
  parent: usize,
  sptep: usize,
  level: u32,
  resumed: bool,
  shadows: bool,
  access: u32,
): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const gfn = load<u64>(vcpu, VCPU_F_GFN);
  const nxHuge = load<u32>(vm, VM_NX_HUGE) != 0;
  while (level != 0) {
    let sp: usize;
    if (resumed) {
      sp = load<u32>(vcpu, VCPU_REQ_PAGE);
      linkPage(vm, sptep, sp);
      if (load<u32>(vcpu, VCPU_F_NO_HUGE) != 0 && load<u32>(vcpu, VCPU_F_REQ_LEVEL) >= level) noteForbidden(vm, sp);
      resumed = false;
    } else {
      if (shadows) store<u32>(parent, 0, SP_FLOOD);
      if (nxHuge) keepSmall(vcpu, load<u64>(sptep), level);
      const base = gfn & ~(pagesOf(level) - 1);
      if (level == load<u32>(vcpu, VCPU_F_GOAL_LEVEL)) {
        const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
        const result = installLeaf(vcpu, slot, parent, sptep, access, base, load<u64>(vcpu, VCPU_F_PFN), true);
        if (result == RET_PF_SPURIOUS) return result;
        if (shadows) prefetchFault(vcpu, parent, sptep);
        else prefetchDirectFault(vcpu, parent, sptep);
        return result;
      }
      if (shadows) validateDirect(vm, sptep, access);
      // Addresses of L1's have alias bits: the fault's below a direct root, else those that L1's leaf gives.
      const gpa = shadows ? load<u64>(vcpu, VCPU_GW_GPA) : address;
      const alias = aliasBits(vm, (gpa >> 12) & ~(pagesOf(level) - 1));
      sp = linkedChild(vcpu, parent, sptep, base, alias, true, shadows ? access : ACC_ALL);
      if (sp == 0) return wait(vcpu, STAGE_DIRECT, sptep, level);
    }
    parent = sp;
    level--;
    sptep = entryAt(tableOf(sp), address, level);
  }
  broken(vm);
  return RET_PF_RETRY;
}

/**
 * Tables that shadow the guest's, down to the level of the guest's leaf; then what lies below. `waited`: the host did
 * something since the guest walk, so the guest's entries may have changed.
 */
function fetchTables(vcpu: usize, parent: usize, sptep: usize, level: u32, resumed: bool, waited: bool): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const last = load<u32>(vcpu, VCPU_GW_LEVEL);
  const guestLevel = load<u32>(mmu, MMU_GUEST_LEVEL);
  while (level > last) {
    const i = <usize>(level - 2);
    let sp: usize;
    if (!resumed) {
      store<u32>(parent, 0, SP_FLOOD);
      // A promoted page has no guest entry behind it: the page below shadows the same table, with all rights.
      const promoted = (roleOf(parent) & ROLE_LEVEL_PROMOTED) != 0;
      const gfn = promoted ? gfnOf(parent) : load<u64>(vcpu + (i << 3), VCPU_GW_TABLE_GFN);
      const access = promoted ? ACC_ALL : load<u32>(vcpu + (i << 2), VCPU_GW_PT_ACCESS);
      sp = linkedChild(vcpu, parent, sptep, gfn, 0, false, access);
      if (sp == 0) return wait(vcpu, STAGE_TABLE, sptep, level);
    } else {
      // The guest need not flush when an entry becomes present, so what lies below is synchronised before it is linked.
      sp = load<u32>(vcpu, VCPU_REQ_PAGE);
      if (load<u32>(sp, SP_UNSYNC_CHILDREN) != 0) syncChildren(vcpu, sp);
    }
    // The table is write-protected only now: is the entry still what the walk saw? PDPTEs are not in `GW_PTE`.
    const below = level - 1;
    if (waited && below <= guestLevel && !(guestLevel == 3 && below == 3) && gpteChanged(vcpu, mmu, below)) {
      return RET_PF_RETRY;
    }
    if (resumed) linkPage(vm, sptep, sp);
    resumed = false;
    parent = sp;
    level--;
    sptep = entryAt(tableOf(sp), address, level);
  }
  adjustLevel(vcpu);
  requested(vcpu);
  return fetchDirect(vcpu, parent, sptep, level, false, true, load<u32>(vcpu, VCPU_GW_PTE_ACCESS));
}

/** After the guest walk of a shadowing context. */
export function fetch(vcpu: usize, waited: bool): u32 {
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const guestLevel = load<u32>(mmu, MMU_GUEST_LEVEL);
  if (waited && gpteChanged(vcpu, mmu, guestLevel == 3 ? 2 : guestLevel)) return RET_PF_RETRY;
  const root: usize = load<u32>(mmu, MMU_ROOT);
  return fetchTables(vcpu, root, rootEntry(root, load<u64>(vcpu, VCPU_F_ADDRESS)), levelOf(root), false, waited);
}

/** Maps an address in a direct context. */
export function mapDirect(vcpu: usize): u32 {
  const root: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT);
  adjustLevel(vcpu);
  requested(vcpu);
  const sptep = rootEntry(root, load<u64>(vcpu, VCPU_F_ADDRESS));
  return fetchDirect(vcpu, root, sptep, levelOf(root), false, false, directRights(vcpu));
}

/** Goes on with the page in REQ_PAGE. */
export function fetchResume(vcpu: usize, shadows: bool): u32 {
  const sptep: usize = load<u32>(vcpu, VCPU_F_SPTEP);
  const level = load<u32>(vcpu, VCPU_F_LEVEL);
  const parent = pageOf(load<u32>(vcpu, VCPU_VM), sptep);
  if (load<u32>(vcpu, VCPU_F_STAGE) == STAGE_TABLE) return fetchTables(vcpu, parent, sptep, level, true, true);
  const access = shadows ? load<u32>(vcpu, VCPU_GW_PTE_ACCESS) : directRights(vcpu);
  return fetchDirect(vcpu, parent, sptep, level, true, shadows, access);
}
