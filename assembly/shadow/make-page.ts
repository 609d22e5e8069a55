/** Asking for a shadow page, initialising a fresh one, linking it. */
import { SPACE_PDPTES } from "../abi/layout";
import { ROLE_ACCESS, ROLE_DIRECT, ROLE_LEVEL, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT } from "../abi/role";
import {
  EV_GET_PAGE,
  LOW_LATCHED,
  MMU_SPACE,
  SP_CHAIN,
  SP_CURRENT,
  SP_FLOOD,
  SP_GAP,
  SP_GENERATION,
  SP_GFN,
  SP_LOW,
  SP_NO_HUGE,
  SP_PARENTS,
  SP_PDPTES,
  SP_ROLE,
  SP_ROOT_COUNT,
  SP_SHADOWED,
  SP_TDP,
  SP_UNSYNC,
  SP_UNSYNC_BITMAP,
  SP_UNSYNC_CHILDREN,
  VCPU_MMU,
  VCPU_REQ_GFN,
  VCPU_REQ_LOW,
  VCPU_REQ_PAGE,
  VCPU_REQ_ROLE,
  VCPU_VM,
  VM_ACTIVE,
  VM_INDIRECT,
  VM_USED,
  VM_VALID_GEN,
} from "../abi/shadow";
import { ACC_ALL, SPTE_ADDRESS } from "../abi/spte";
import { gfnOfAddress, lowOfAlias } from "../pages/alias";
import { chainAdd } from "../pages/chain";
import { childRole } from "../pages/child-role";
import { broken } from "../pages/counters";
import { emitPage } from "../pages/event";
import { flushGfns, flushRemote } from "../pages/flush";
import { linkOf, listAdd } from "../pages/list";
import {
  adDisabled,
  childOf,
  emptyEntry,
  gfnOf,
  hasGptes,
  hostAddress,
  indexOf,
  isAboveGuest,
  levelOf,
  pageOf,
  roleOf,
  spaceOf,
  tableOf,
} from "../pages/page";
import { changeLpage, changeTrack, findSlot, ramOf } from "../pages/slot";
import { pdpteSpte, tableSpte } from "../spte/make";
import { isLarge, isPresent } from "../spte/predicates";
import { rmapAdd } from "./rmap";
import { markUnsync } from "./unsync";
import { protectGfn } from "./write-protect";
import { dropParent, flushOrZap, zapEntry } from "./zap";

/**
 * The page that belongs below entry `sptep` of `parent` if it is linked there already; else 0, with its name in the request.
 * Promoted pages of a PAE guest hand the name of the page-directory-pointer table down to level 3; `alias` has the
 * alias bits of what a direct page maps.
 */
export function linkedChild(
  vcpu: usize,
  parent: usize,
  sptep: usize,
  gfn: u64,
  alias: u64,
  direct: bool,
  access: u32,
): usize {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const role = childRole(roleOf(parent), indexOf(sptep), direct, access);
  const promoted = (roleOf(parent) & ROLE_LEVEL_PROMOTED) != 0;
  const low = promoted && (role & ROLE_LEVEL) >= 3 ? load<u32>(parent, SP_LOW) : lowOfAlias(alias);
  const spte = load<u64>(sptep);
  if (isPresent(spte) && !isLarge(spte)) {
    const child = childOf(vm, spte);
    if (gfnOf(child) == gfn && roleOf(child) == role && load<u32>(child, SP_LOW) == low) return child;
  }
  store<u64>(vcpu, gfn, VCPU_REQ_GFN);
  store<u32>(vcpu, role, VCPU_REQ_ROLE);
  store<u32>(vcpu, low, VCPU_REQ_LOW);
  return 0;
}

/** PDPTE `index` of the table that a page shadows: latched with the page, or as memory has it now. */
function pdpteOf(vcpu: usize, sp: usize, index: u32): u64 {
  const low = load<u32>(sp, SP_LOW);
  if (low & LOW_LATCHED) return load<u64>(sp + ((<usize>index) << 3), SP_PDPTES);
  const ram = ramOf(vcpu, gfnOf(sp));
  return ram == 0 ? 0 : load<u64>(ram + <usize>(low & 0xfe0) + ((<usize>index) << 3));
}

/**
 * Asks for the page below entry `index` of a root table that shadows less than a whole level of the guest's: of a
 * promoted page, a PAE guest's page-directory pointers, or a direct PAE root. Returns 0 where nothing belongs there,
 * 1 where a page is wanted, 2 where it is linked already (it counts as just walked then).
 */
export function requestRootChild(vcpu: usize, sp: usize, index: u32): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const sptep = tableOf(sp) + ((<usize>index) << 3);
  const role = roleOf(sp);
  const direct = (role & ROLE_DIRECT) != 0;
  let gfn = gfnOf(sp);
  if (direct) gfn += (<u64>index) << 18;
  else if (!(role & ROLE_LEVEL_PROMOTED)) {
    const pdpte = pdpteOf(vcpu, sp, index);
    if (!(pdpte & 1)) return 0;
    gfn = gfnOfAddress(vm, pdpte & SPTE_ADDRESS);
  }
  const child = linkedChild(vcpu, sp, sptep, gfn, 0, direct, ACC_ALL);
  if (child == 0) return 1;
  store<u32>(child, 0, SP_FLOOD);
  return 2;
}

/** Links the page that was asked for. */
export function linkRootChild(vcpu: usize, sp: usize, index: u32): void {
  linkPage(load<u32>(vcpu, VCPU_VM), tableOf(sp) + ((<usize>index) << 3), load<u32>(vcpu, VCPU_REQ_PAGE));
}

/** Counts a page that shadows a guest table, and takes write access to the table away. */
function account(vm: usize, sp: usize): void {
  store<u32>(vm, load<u32>(vm, VM_INDIRECT) + 1, VM_INDIRECT);
  const gfn = gfnOf(sp);
  const slot = findSlot(vm, spaceOf(sp), gfn);
  if (slot == 0) {
    broken(vm);
    return;
  }
  // Tables of upper levels stay read-only; level-1 tables may become unsync.
  if (levelOf(sp) > 1) changeTrack(slot, gfn, 1);
  else changeLpage(slot, gfn, 1);
  if (protectGfn(vm, slot, gfn, 1)) flushRemote(vm);
}

/** The root remembers the PDPTEs that its vCPU has latched. */
function latch(vcpu: usize, sp: usize): void {
  const space: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_SPACE);
  memory.copy(sp + SP_PDPTES, space + SPACE_PDPTES, 32);
}

/** Initialises a header whose SP_SPT and SP_SHADOWED the host has set, for the page of the request. */
export function createPage(vcpu: usize, sp: usize): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const low = load<u32>(vcpu, VCPU_REQ_LOW);
  store<u64>(sp, load<u64>(vcpu, VCPU_REQ_GFN), SP_GFN);
  store<u32>(sp, load<u32>(vcpu, VCPU_REQ_ROLE), SP_ROLE);
  store<u32>(sp, 0, SP_ROOT_COUNT);
  store<u32>(sp, load<u32>(vm, VM_VALID_GEN), SP_GENERATION);
  store<u32>(sp, 0, SP_UNSYNC);
  store<u32>(sp, 0, SP_UNSYNC_CHILDREN);
  store<u32>(sp, 0, SP_FLOOD);
  store<u32>(sp, 0, SP_PARENTS);
  store<u32>(sp, 0, SP_CHAIN);
  store<u32>(sp, low, SP_LOW);
  store<u32>(sp, 0, SP_NO_HUGE);
  store<u32>(sp, 0, SP_CURRENT);
  store<u32>(sp, 0, SP_GAP);
  store<u32>(sp, 0, SP_TDP);
  memory.fill(sp + SP_UNSYNC_BITMAP, 0, 64);
  if (low & LOW_LATCHED) latch(vcpu, sp);
  const table = tableOf(sp);
  memory.fill(table, 0, 4096);
  const translations: usize = load<u32>(sp, SP_SHADOWED);
  if (translations != 0) memory.fill(translations, 0, 4096);
  const empty = emptyEntry(vm, sp);
  if (empty != 0) for (let i: usize = 0; i < 4; i++) store<u64>(table + (i << 3), empty);
  listAdd(linkOf(sp), vm + VM_ACTIVE);
  if (!isAboveGuest(sp)) store<u32>(vm, load<u32>(vm, VM_USED) + 1, VM_USED);
  chainAdd(vm, sp);
  if (hasGptes(sp)) account(vm, sp);
  emitPage(vm, EV_GET_PAGE, sp, 1);
}

/** Points `sptep` to a page. */
export function linkPage(vm: usize, sptep: usize, sp: usize): void {
  const parent = pageOf(vm, sptep);
  if (isPresent(load<u64>(sptep))) {
    zapEntry(vm, parent, sptep, true);
    flushOrZap(vm, true);
  }
  const address = hostAddress(vm, sp);
  store<u64>(sptep, roleOf(parent) & ROLE_PAE_ROOT ? pdpteSpte(vm, address) : tableSpte(vm, address, adDisabled(sp)));
  rmapAdd(vm, sptep, sp + SP_PARENTS);
  if (load<u32>(sp, SP_UNSYNC) != 0 || load<u32>(sp, SP_UNSYNC_CHILDREN) != 0) markUnsync(vm, sptep);
}

/**
 * A direct page below a guest's large page was made with the rights that the guest gave then; with others it is replaced
 * (a clean large page was mapped read-only and is now written, say).
 */
export function validateDirect(vm: usize, sptep: usize, access: u32): void {
  const spte = load<u64>(sptep);
  if (!isPresent(spte) || isLarge(spte)) return;
  const child = childOf(vm, spte);
  if ((roleOf(child) & ROLE_ACCESS) >> 8 == access) return;
  dropParent(vm, child, sptep);
  flushGfns(vm, gfnOf(child), 1);
}
