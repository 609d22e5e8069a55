/** A shadow page: its header, its role, its place among the pages of one gfn. */
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
import {
  LOW_LATCHED,
  SP_GENERATION,
  SP_GFN,
  SP_LOW,
  SP_ROLE,
  SP_SHADOWED,
  SP_SPT,
  SP_TDP,
  VM_DEFAULT_PDPTE,
  VM_NORMAL_ZONE,
  VM_PAGE_MAP,
  VM_PDPTE_VALUE,
  VM_VALID_GEN,
} from "../abi/shadow";
import { SPTE_ADDRESS } from "../abi/spte";
import { plainGfn } from "./alias";

/** Header of the page that holds the SPTE at `sptep`. */
// @ts-ignore: decorator
@inline export function pageOf(vm: usize, sptep: usize): usize {
  return load<u32>(<usize>load<u32>(vm, VM_PAGE_MAP) + ((sptep >> 12) << 2));
}

// @ts-ignore: decorator
@inline export function roleOf(sp: usize): u32 {
  return load<u32>(sp, SP_ROLE);
}

// @ts-ignore: decorator
@inline export function levelOf(sp: usize): u32 {
  return load<u32>(sp, SP_ROLE) & ROLE_LEVEL;
}

// @ts-ignore: decorator
@inline export function gfnOf(sp: usize): u64 {
  return load<u64>(sp, SP_GFN);
}

// @ts-ignore: decorator
@inline export function tableOf(sp: usize): usize {
  return load<u32>(sp, SP_SPT);
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
@inline export function childOf(vm: usize, spte: u64): usize {
  return pageOf(vm, childTable(spte));
}

/** Host-physical address of a page's table: the low zone is linear memory itself. */
// @ts-ignore: decorator
@inline export function hostAddress(vm: usize, sp: usize): u64 {
  return <u64>tableOf(sp) + (roleOf(sp) & ROLE_PAE_ROOT ? 0 : load<u64>(vm, VM_NORMAL_ZONE));
}

export function spteAddress(vm: usize, sptep: usize): u64 {
  return hostAddress(vm, pageOf(vm, sptep)) + <u64>(sptep & 0xfff);
}

/** 1 for pages of the SMM address space. */
// @ts-ignore: decorator
@inline export function spaceOf(sp: usize): u32 {
  return roleOf(sp) & ROLE_SMM ? 1 : 0;
}

/** Guest entries stand behind its SPTEs: not in direct, promoted and latched pages. */
// @ts-ignore: decorator
@inline export function hasGptes(sp: usize): bool {
  return (roleOf(sp) & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) == 0 && (load<u32>(sp, SP_LOW) & LOW_LATCHED) == 0;
}

/**
 * Stands above the tables of a guest with less than four levels: it shadows nothing, lives only as long as a root does,
 * and does not count against the page limit. (A promoted root over four levels is a page like any other.)
 */
export function isAboveGuest(sp: usize): bool {
  const role = roleOf(sp);
  if ((role & ROLE_PAE_ROOT) != 0 || (load<u32>(sp, SP_LOW) & LOW_LATCHED) != 0) return true;
  return (role & ROLE_LEVEL_PROMOTED) != 0 && (role & ROLE_GUEST_LEVEL) >> ROLE_GUEST_LEVEL_SHIFT < 4;
}

// @ts-ignore: decorator
@inline export function isObsolete(vm: usize, sp: usize): bool {
  if (roleOf(sp) & ROLE_INVALID) return true;
  // The TDP MMU's roots are invalidated one by one.
  return load<u32>(sp, SP_TDP) == 0 && load<u32>(sp, SP_GENERATION) != load<u32>(vm, VM_VALID_GEN);
}

// @ts-ignore: decorator
@inline export function adDisabled(sp: usize): bool {
  return (roleOf(sp) & ROLE_AD_DISABLED) != 0;
}

/** What an unused entry of the page holds. */
export function emptyEntry(vm: usize, sp: usize): u64 {
  if (load<u32>(vm, VM_DEFAULT_PDPTE) == 0) return 0;
  return roleOf(sp) & ROLE_PAE_ROOT ? load<u64>(vm, VM_PDPTE_VALUE) : 0;
}

/** gfn that entry `index` maps (leaf) or shadows. */
export function entryGfn(vm: usize, sp: usize, index: u32): u64 {
  const role = roleOf(sp);
  if (role & ROLE_LEVEL_PROMOTED) return gfnOf(sp);
  if (!(role & ROLE_DIRECT)) return load<u64>(<usize>load<u32>(sp, SP_SHADOWED) + ((<usize>index) << 3)) >> 12;
  return plainGfn(vm, gfnOf(sp) + ((<u64>index) << (9 * ((role & ROLE_LEVEL) - 1))));
}

export function setTranslation(sp: usize, index: u32, gfn: u64, access: u32): void {
  if (hasGptes(sp)) store<u64>(<usize>load<u32>(sp, SP_SHADOWED) + ((<usize>index) << 3), (gfn << 12) | (<u64>access));
}

export function setAccess(vm: usize, sp: usize, index: u32, access: u32): void {
  setTranslation(sp, index, entryGfn(vm, sp, index), access);
}

// @ts-ignore: decorator
@inline export function entryPointer(sp: usize, index: u32): usize {
  return <usize>load<u32>(sp, SP_SPT) + ((<usize>index) << 3);
}
