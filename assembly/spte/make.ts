/**
 * SPTE construction, for the legacy/NPT and the EPT format alike: the masks decide.
 * Source of the rules: make_spte, make_nonleaf_spte, make_mmio_spte and their neighbours in arch/x86/kvm/mmu/spte.c.
 */
import { Vm } from "../abi/records";
import { ROLE_AD_DISABLED, ROLE_GUEST_MODE, ROLE_LEVEL } from "../abi/role";
import {
  ACC_ALL,
  ACC_EXEC,
  ACC_USER,
  ACC_WRITE,
  MMIO_GENERATION,
  MMIO_GENERATION_HIGH,
  MMIO_GENERATION_LOW,
  SPTE_AD_DISABLED,
  SPTE_AD_WRITE_PROTECT_ONLY,
  SPTE_MMU_PRESENT,
  SPTE_MOVED_GFN_LENGTH,
  SPTE_P,
  SPTE_PS,
  SPTE_SAVED_BITS,
  SPTE_SAVED_SHIFT,
  SPTE_W,
} from "../abi/spte";
import { accessedMask, adEnabled, addressMask, isAccessTracked } from "./predicates";

/**
 * A leaf that may not be written yet: `install` adds W and D where nothing forbids writing.
 * `page` is the host page's address; `access` has ACC_* bits.
 */
export function leafSpte(vm: Vm, role: u32, access: u32, page: u64, prefetch: bool, hostWritable: bool): u64 {
  const level = role & ROLE_LEVEL;
  let spte = SPTE_MMU_PRESENT | vm.present | page;
  if (role & ROLE_AD_DISABLED) spte |= SPTE_AD_DISABLED;
  // The log of a nested guest would hold its own addresses, so its writes are caught by write protection.
  else if (vm.cpuDirtyLog != 0 && (role & ROLE_GUEST_MODE) != 0) spte |= SPTE_AD_WRITE_PROTECT_ONLY;
  if (!prefetch) spte |= accessedMask(vm, spte);
  const executable = (access & ACC_EXEC) != 0 && (level == 1 || vm.nxHuge == 0);
  spte |= executable ? vm.x : vm.nx;
  if (access & ACC_USER) spte |= vm.user;
  if (level > 1) spte |= SPTE_PS;
  if (vm.memtype != 0) spte |= vm.memtypeValue;
  if (hostWritable) spte |= vm.hostWritable;
  return spte | vm.meValue;
}

/**
 * What a leaf of level 1 has besides its address, and the dirty bit where it becomes writable: in a page without special
 * rules for A and D bits, for an access to a page that the host may write. By rights, worked out in advance (`vm.leaf`).
 */
// @ts-ignore: decorator
@inline export function commonLeaf(vm: Vm, access: u32): u64 {
  return vm.leaf(access);
}

/** Works them out; the masks are set. */
export function setCommonLeaves(vm: Vm): void {
  for (let access: u32 = 0; access <= ACC_ALL; access++) {
    const writable = access & ACC_WRITE ? writableBits(vm) : 0;
    vm.setLeaf(access, leafSpte(vm, 1, access, 0, false, true) | writable);
  }
}

// @ts-ignore: decorator
@inline export function writableBits(vm: Vm): u64 {
  return SPTE_W | vm.mmuWritable;
}

/** An SPTE that points to a table at host-physical address `table`; all rights are granted, leaves decide. */
export function tableSpte(vm: Vm, table: u64, adDisabled: bool): u64 {
  const spte = SPTE_MMU_PRESENT | SPTE_W | table | vm.present | vm.user | vm.x | vm.meValue;
  return spte | (adDisabled ? SPTE_AD_DISABLED : vm.accessed);
}

/**
 * A PDPTE of a pae_root: bits 2:1, 8:5 and above MAXPHYADDR are reserved there, bits 11:9 are ignored
 * and hold the MMU-present bit (SDM, "PAE Paging", PDPTE format).
 */
export function pdpteSpte(vm: Vm, table: u64): u64 {
  return SPTE_MMU_PRESENT | SPTE_P | table | vm.meValue;
}

export function mmioSpte(vm: Vm, gfn: u64, access: u32, generation: u64): u64 {
  const gpa = gfn << 12;
  const split = vm.nonpresentOrRsvd;
  const low = generation & MMIO_GENERATION;
  return (
    vm.mmioValue |
    ((<u64>access) & vm.mmioAccess) |
    ((low << 3) & MMIO_GENERATION_LOW) |
    ((low << 44) & MMIO_GENERATION_HIGH) |
    gpa |
    split |
    ((gpa & split) << SPTE_MOVED_GFN_LENGTH)
  );
}

export function mmioGfn(vm: Vm, spte: u64): u64 {
  const split = vm.nonpresentOrRsvd;
  return ((spte & vm.lowerGfn) | ((spte >> SPTE_MOVED_GFN_LENGTH) & split)) >> 12;
}

// @ts-ignore: decorator
@inline export function mmioAccess(vm: Vm, spte: u64): u32 {
  return <u32>(spte & vm.mmioAccess);
}

// @ts-ignore: decorator
@inline export function mmioGeneration(spte: u64): u64 {
  return ((spte & MMIO_GENERATION_LOW) >> 3) | ((spte & MMIO_GENERATION_HIGH) >> 44);
}

/** Makes the next access notice itself: clears A, or takes R and X away and saves them where A does not exist. */
export function trackAccess(vm: Vm, spte: u64): u64 {
  if (adEnabled(spte)) return spte & ~vm.accessed;
  if (isAccessTracked(vm, spte)) return spte;
  return (spte | ((spte & SPTE_SAVED_BITS) << SPTE_SAVED_SHIFT)) & ~vm.accTrack;
}

/** Gives the rights back that `trackAccess` took. */
export function restoreAccess(vm: Vm, spte: u64): u64 {
  const saved = (spte >> SPTE_SAVED_SHIFT) & SPTE_SAVED_BITS;
  return (spte & ~vm.accTrack & ~(SPTE_SAVED_BITS << SPTE_SAVED_SHIFT)) | saved;
}

/** The SPTE after the host put another page behind the address, which may only be read until the next fault. */
export function changedPageSpte(vm: Vm, spte: u64, page: u64): u64 {
  const writable = writableBits(vm) | vm.hostWritable;
  return trackAccess(vm, ((spte & ~addressMask(vm)) | page) & ~writable);
}

/** One of the smaller leaves that replace a huge one; `role` is the new table's, `index` the place in it. */
export function splitSpte(vm: Vm, huge: u64, role: u32, index: u32): u64 {
  const level = role & ROLE_LEVEL;
  let spte = huge | ((<u64>index) << (12 + 9 * (level - 1)));
  if (level > 1) return spte;
  spte &= ~SPTE_PS;
  if (((role >> 8) & ACC_EXEC) == 0 || vm.nxHuge == 0) return spte;
  const tracked = isAccessTracked(vm, spte);
  if (tracked) spte = restoreAccess(vm, spte);
  spte = (spte & ~vm.nx) | vm.x;
  return tracked ? trackAccess(vm, spte) : spte;
}
