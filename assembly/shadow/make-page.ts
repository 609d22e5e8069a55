/** Asking for a shadow page, initialising a fresh one, linking it. */
import { PTE_P } from "../abi/bits";
import { ShadowPage, Vcpu, Vm } from "../abi/records";
import { ROLE_ACCESS, ROLE_DIRECT, ROLE_LEVEL, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT } from "../abi/role";
import { EV_GET_PAGE, KERNEL_RULE_DUMMY_ROOT, LOW_LATCHED } from "../abi/shadow";
import { ACC_ALL, SPTE_ADDRESS } from "../abi/spte";
import { gfnOfAddress, lowOfAlias } from "../pages/alias";
import { chainAdd } from "../pages/chain";
import { childRole } from "../pages/child-role";
import { broken } from "../pages/counters";
import { emitPage } from "../pages/event";
import { flushGfns, flushRemote } from "../pages/flush";
import { listAdd } from "../pages/list";
import {
  adDisabled,
  childOf,
  clearTable,
  emptyEntry,
  entryPointer,
  hasGptes,
  hostAddress,
  indexOf,
  isAboveGuest,
  levelOf,
  pageOf,
  parentsOf,
  spaceOf,
} from "../pages/page";
import { changeLpage, changeTrack, findSlot, isVisible, ramOf } from "../pages/slot";
import { pdpteSpte, tableSpte } from "../spte/make";
import { isLarge, isPresent } from "../spte/predicates";
import { reservedBits } from "../walk/reserved";
import { rmapAdd } from "./rmap";
import { markUnsync } from "./unsync";
import { protectGfn } from "./write-protect";
import { dropParent, flushOrZap, zapEntry } from "./zap";

/**
 * The page that belongs below entry `sptep` of `parent` if it is linked there already; else null, with its name in the request.
 * Promoted pages of a PAE guest hand the name of the page-directory-pointer table down to level 3; `alias` has the
 * alias bits of what a direct page maps.
 */
export function linkedChild(
  vcpu: Vcpu,
  parent: ShadowPage,
  sptep: usize,
  gfn: u64,
  alias: u64,
  direct: bool,
  access: u32,
): ShadowPage | null {
  const vm = vcpu.vm;
  const role = childRole(parent.role, indexOf(sptep), direct, access);
  const promoted = (parent.role & ROLE_LEVEL_PROMOTED) != 0;
  const low = promoted && (role & ROLE_LEVEL) >= 3 ? parent.low : lowOfAlias(alias);
  const spte = load<u64>(sptep);
  if (isPresent(spte) && !isLarge(spte)) {
    const child = childOf(vm, spte);
    if (child.gfn == gfn && child.role == role && child.low == low) return child;
  }
  vcpu.reqGfn = gfn;
  vcpu.reqRole = role;
  vcpu.reqLow = low;
  return null;
}

/** PDPTE `index` of the table that a page shadows: latched with the page, or as memory has it now. */
function pdpteOf(vcpu: Vcpu, sp: ShadowPage, index: u32): u64 {
  const low = sp.low;
  if (low & LOW_LATCHED) return sp.pdptes(index);
  const ram = ramOf(vcpu, sp.gfn);
  return ram == 0 ? 0 : load<u64>(ram + <usize>(low & 0xfe0) + ((<usize>index) << 3));
}

/**
 * Asks for the page below entry `index` of a root table that shadows less than a whole level of the guest's: of a
 * promoted page, a PAE guest's page-directory pointers, or a direct PAE root. Returns 0 where nothing belongs there,
 * 1 where a page is wanted, 2 where it is linked already (it counts as just walked then).
 */
export function requestRootChild(vcpu: Vcpu, sp: ShadowPage, index: u32): u32 {
  const vm = vcpu.vm;
  const sptep = entryPointer(sp, index);
  const role = sp.role;
  const direct = (role & ROLE_DIRECT) != 0;
  let gfn = sp.gfn;
  if (direct) gfn += (<u64>index) << 18;
  else if (!(role & ROLE_LEVEL_PROMOTED)) {
    const pdpte = pdpteOf(vcpu, sp, index);
    // What was latched is well-formed; a live one with reserved bits leads nowhere.
    if (!(pdpte & PTE_P) || (pdpte & reservedBits(vcpu.mmu.space, 3, pdpte)) != 0) return 0;
    gfn = gfnOfAddress(vm, pdpte & SPTE_ADDRESS);
    if ((vm.rules & KERNEL_RULE_DUMMY_ROOT) != 0 && !isVisible(vcpu, gfn)) return 0;
  }
  const child = linkedChild(vcpu, sp, sptep, gfn, 0, direct, ACC_ALL);
  if (child == null) return 1;
  child.flood = 0;
  return 2;
}

/** Links the page that was asked for. */
export function linkRootChild(vcpu: Vcpu, sp: ShadowPage, index: u32): void {
  linkPage(vcpu.vm, entryPointer(sp, index), vcpu.reqPage);
}

/** Counts a page that shadows a guest table, and takes write access to the table away. */
function account(vm: Vm, sp: ShadowPage): void {
  vm.indirect++;
  const gfn = sp.gfn;
  const slot = findSlot(vm, spaceOf(sp), gfn);
  if (slot == null) {
    broken(vm);
    return;
  }
  // Tables of upper levels stay read-only; level-1 tables may become unsync.
  if (levelOf(sp) > 1) changeTrack(slot, gfn, 1);
  else changeLpage(slot, gfn, 1);
  if (protectGfn(vm, slot, gfn, 1)) flushRemote(vm);
}

/** The root remembers the PDPTEs that its vCPU has latched. */
function latch(vcpu: Vcpu, sp: ShadowPage): void {
  const space = vcpu.mmu.space;
  memory.copy(sp.pdptesAddress, space.pdptesAddress, 32);
}

/** Initialises a header whose `spt` and `shadowed` the host has set, for the page of the request. */
export function createPage(vcpu: Vcpu, sp: ShadowPage): void {
  const vm = vcpu.vm;
  const low = vcpu.reqLow;
  sp.gfn = vcpu.reqGfn;
  sp.role = vcpu.reqRole;
  sp.rootCount = 0;
  sp.generation = vm.validGen;
  sp.unsync = 0;
  sp.unsyncChildren = 0;
  sp.flood = 0;
  sp.parents = 0;
  sp.chain = null;
  sp.low = low;
  sp.forbidden = 0;
  sp.noHuge = 0;
  sp.current = 0;
  sp.gap = 0;
  sp.tdp = 0;
  memory.fill(sp.unsyncBitmapAddress, 0, 64);
  if (low & LOW_LATCHED) latch(vcpu, sp);
  const table = sp.spt;
  const isPaeRoot = (sp.role & ROLE_PAE_ROOT) != 0;
  clearTable(table, isPaeRoot ? 0 : vm.empty);
  const translations = sp.shadowed;
  if (translations != 0) memory.fill(translations, 0, 4096);
  const empty = emptyEntry(vm, sp);
  if (isPaeRoot) for (let i: usize = 0; i < 4; i++) store<u64>(table + (i << 3), empty);
  listAdd(sp.link, vm.active);
  if (!isAboveGuest(sp)) vm.used++;
  chainAdd(vm, sp);
  if (hasGptes(sp)) account(vm, sp);
  emitPage(vm, EV_GET_PAGE, sp, 1);
}

/** Points `sptep` to a page. */
export function linkPage(vm: Vm, sptep: usize, sp: ShadowPage): void {
  const parent = pageOf(vm, sptep);
  if (isPresent(load<u64>(sptep))) {
    zapEntry(vm, parent, sptep, true);
    flushOrZap(vm, true);
  }
  const address = hostAddress(vm, sp);
  store<u64>(sptep, parent.role & ROLE_PAE_ROOT ? pdpteSpte(vm, address) : tableSpte(vm, address, adDisabled(sp)));
  rmapAdd(vm, sptep, parentsOf(sp));
  if (sp.unsync != 0 || sp.unsyncChildren != 0) markUnsync(vm, sptep);
}

/**
 * A direct page below a guest's large page was made with the rights that the guest gave then; with others it is replaced
 * (a clean large page was mapped read-only and is now written, say).
 */
export function validateDirect(vm: Vm, sptep: usize, access: u32): void {
  const spte = load<u64>(sptep);
  if (!isPresent(spte) || isLarge(spte)) return;
  const child = childOf(vm, spte);
  if ((child.role & ROLE_ACCESS) >> 8 == access) return;
  dropParent(vm, child, sptep);
  flushGfns(vm, child.gfn, 1);
}
