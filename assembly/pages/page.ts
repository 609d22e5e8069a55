/** A shadow page: its header, its role, its place among the pages of one gfn. */
import { ShadowPage, Vm } from "../abi/records";
import {
  ROLE_AD_DISABLED,
  ROLE_DIRECT,
  ROLE_GUEST_LEVEL,
  ROLE_GUEST_LEVEL_SHIFT,
  ROLE_INVALID,
  ROLE_LEVEL,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  ROLE_SMM,
} from "../abi/role";
import { LOW_LATCHED, SHADOWED_ACCESS, SHADOWED_GFN_SHIFT } from "../abi/shadow";
import { SPTE_ADDRESS } from "../abi/spte";
import { plainGfn } from "./alias";

/** Header of the page that holds the SPTE at `sptep`. */
// @ts-ignore: decorator
@inline export function pageOf(vm: Vm, sptep: usize): ShadowPage {
  return load<ShadowPage>(vm.pageMap + ((sptep >> 12) << 2));
}

// @ts-ignore: decorator
@inline export function levelOf(sp: ShadowPage): u32 {
  return sp.role & ROLE_LEVEL;
}

/** Address of the rmap head of the SPTEs that point to the page. */
// @ts-ignore: decorator
@inline export function parentsOf(sp: ShadowPage): usize {
  return changetype<usize>(sp) + offsetof<ShadowPage>("parents");
}

// @ts-ignore: decorator
@inline export function indexOf(sptep: usize): u32 {
  return (<u32>(sptep >> 3)) & 511;
}

/** Linear address of the table that a present, non-leaf SPTE points to. */
// @ts-ignore: decorator
@inline export function childTable(spte: u64): usize {
  return <usize>(<u32>(spte & SPTE_ADDRESS));
}

// @ts-ignore: decorator
@inline export function childOf(vm: Vm, spte: u64): ShadowPage {
  return pageOf(vm, childTable(spte));
}

/** Host-physical address of a page's table: the low zone is linear memory itself. */
// @ts-ignore: decorator
@inline export function hostAddress(vm: Vm, sp: ShadowPage): u64 {
  return <u64>sp.spt + (sp.role & ROLE_PAE_ROOT ? 0 : vm.normalZone);
}

export function spteAddress(vm: Vm, sptep: usize): u64 {
  return hostAddress(vm, pageOf(vm, sptep)) + <u64>(sptep & 0xfff);
}

/** 1 for pages of the SMM address space. */
// @ts-ignore: decorator
@inline export function spaceOf(sp: ShadowPage): u32 {
  return sp.role & ROLE_SMM ? 1 : 0;
}

/** Guest entries stand behind its SPTEs: not in direct, promoted and latched pages. */
// @ts-ignore: decorator
@inline export function hasGptes(sp: ShadowPage): bool {
  return (sp.role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) == 0 && (sp.low & LOW_LATCHED) == 0;
}

/**
 * Stands above the tables of a guest with less than four levels: it shadows nothing, lives only as long as a root does,
 * and does not count against the page limit. (A promoted root over four levels is a page like any other.)
 */
export function isAboveGuest(sp: ShadowPage): bool {
  const role = sp.role;
  if ((role & ROLE_PAE_ROOT) != 0 || (sp.low & LOW_LATCHED) != 0) return true;
  return (role & ROLE_LEVEL_PROMOTED) != 0 && (role & ROLE_GUEST_LEVEL) >> ROLE_GUEST_LEVEL_SHIFT < 4;
}

// @ts-ignore: decorator
@inline export function isObsolete(vm: Vm, sp: ShadowPage): bool {
  if (sp.role & ROLE_INVALID) return true;
  // The TDP MMU's roots are invalidated one by one.
  return sp.tdp == 0 && sp.generation != vm.validGen;
}

// @ts-ignore: decorator
@inline export function adDisabled(sp: ShadowPage): bool {
  return (sp.role & ROLE_AD_DISABLED) != 0;
}

/** What an unused entry of the page holds. */
export function emptyEntry(vm: Vm, sp: ShadowPage): u64 {
  if ((sp.role & ROLE_PAE_ROOT) == 0) return vm.empty;
  return vm.defaultPdpte != 0 ? vm.pdpteValue : 0;
}

/** Makes every entry of a table `empty`. */
export function clearTable(table: usize, empty: u64): void {
  if (empty == 0) memory.fill(table, 0, 4096);
  else for (let offset: usize = 0; offset < 4096; offset += 8) store<u64>(table + offset, empty);
}

/** gfn that entry `index` maps (leaf) or shadows. */
export function entryGfn(vm: Vm, sp: ShadowPage, index: u32): u64 {
  const role = sp.role;
  if (role & ROLE_LEVEL_PROMOTED) return sp.gfn;
  if (!(role & ROLE_DIRECT)) return load<u64>(sp.shadowed + ((<usize>index) << 3)) >> SHADOWED_GFN_SHIFT;
  return plainGfn(vm, sp.gfn + ((<u64>index) << (9 * ((role & ROLE_LEVEL) - 1))));
}

/** ACC_* bits that the guest's entry behind an SPTE gave, where the page has translations of its own. */
export function entryAccess(sp: ShadowPage, index: u32): u32 {
  return (<u32>load<u64>(sp.shadowed + ((<usize>index) << 3))) & SHADOWED_ACCESS;
}

export function setTranslation(sp: ShadowPage, index: u32, gfn: u64, access: u32): void {
  if (hasGptes(sp)) store<u64>(sp.shadowed + ((<usize>index) << 3), (gfn << SHADOWED_GFN_SHIFT) | (<u64>access));
}

export function setAccess(vm: Vm, sp: ShadowPage, index: u32, access: u32): void {
  setTranslation(sp, index, entryGfn(vm, sp, index), access);
}

// @ts-ignore: decorator
@inline export function entryPointer(sp: ShadowPage, index: u32): usize {
  return sp.spt + ((<usize>index) << 3);
}
