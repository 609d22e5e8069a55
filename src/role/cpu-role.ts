/**
 * The CPU role: a vCPU's paging mode as one page role and one extended role
 * (kvm_calc_cpu_role and kvm_calc_shadow_ept_root_page_role of Linux 6.1). The page
 * role here has none of this project's own bits; those belong to root roles.
 */
import type { BitLayout } from "../abi/bits.js";
import { fieldOf, maskOf } from "../abi/bits.js";
import { CR0, CR4, EFER } from "../abi/registers.js";
import { layoutOf } from "./layouts.js";
import * as role from "./word.js";

/** Registers that the role depends on, as unsigned numbers. */
export interface RoleRegisters {
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
}

/** What the vCPU does besides: both default to false. */
export interface RoleMode {
  /** In system-management mode. */
  readonly smm?: boolean;
  /** Runs a nested guest (L2), or builds the tables for one. */
  readonly guestMode?: boolean;
}

/** Page role and extended role; unsigned 32-bit numbers. */
export interface CpuRole {
  readonly base: number;
  readonly ext: number;
}

const register = (layout: BitLayout, name: string): number => Number(maskOf(fieldOf(layout, name)));
const CR0_PG = register(CR0, "PG");
const CR0_WP = register(CR0, "WP");
const CR4_PSE = register(CR4, "PSE");
const CR4_PAE = register(CR4, "PAE");
const CR4_LA57 = register(CR4, "LA57");
const CR4_SMEP = register(CR4, "SMEP");
const CR4_SMAP = register(CR4, "SMAP");
const CR4_PKE = register(CR4, "PKE");
const EFER_LMA = register(EFER, "LMA");
const EFER_NXE = register(EFER, "NXE");

const EXT = layoutOf("project").ext;
export const EXT_VALID = register(EXT, "valid");
export const EXT_EXECONLY = register(EXT, "execonly");
export const EXT_CR4_PSE = register(EXT, "cr4_pse");
export const EXT_CR4_PKE = register(EXT, "cr4_pke");
export const EXT_CR4_SMAP = register(EXT, "cr4_smap");
export const EXT_CR4_SMEP = register(EXT, "cr4_smep");
export const EXT_CR4_LA57 = register(EXT, "cr4_la57");
export const EXT_EFER_LMA = register(EXT, "efer_lma");

/** Levels of the guest's own tables, 2 to 5; 0 with paging off. Two levels mean CR4.PAE=0, whatever CR4.PSE. */
export function guestLevel(registers: RoleRegisters): number {
  if (!(registers.cr0 & CR0_PG)) return 0;
  if (registers.efer & EFER_LMA) return registers.cr4 & CR4_LA57 ? 5 : 4;
  return registers.cr4 & CR4_PAE ? 3 : 2;
}

/** The CPU role of a vCPU with these registers. */
export function cpuRole(registers: RoleRegisters, mode: RoleMode = {}): CpuRole {
  const { cr0, cr4, efer } = registers;
  let base = role.ACC_ALL << role.ROLE_ACCESS_SHIFT;
  if (mode.smm) base |= 1 << role.ROLE_SMM_SHIFT;
  if (mode.guestMode) base |= role.ROLE_GUEST_MODE;
  if (!(cr0 & CR0_PG)) return { base: (base | role.ROLE_DIRECT) >>> 0, ext: EXT_VALID };

  const longMode = (efer & EFER_LMA) !== 0;
  base |= guestLevel(registers) << role.ROLE_LEVEL_SHIFT;
  if (efer & EFER_NXE) base |= role.ROLE_EFER_NX;
  if (cr0 & CR0_WP) base |= role.ROLE_CR0_WP;
  else {
    // With CR0.WP=0 supervisor writes go through read-only user pages, which KVM shadows as supervisor
    // pages; SMEP and SMAP then decide what else such a page may be.
    if (cr4 & CR4_SMEP) base |= role.ROLE_SMEP_ANDNOT_WP;
    if (cr4 & CR4_SMAP) base |= role.ROLE_SMAP_ANDNOT_WP;
  }
  if (!(cr4 & CR4_PAE)) base |= role.ROLE_4_BYTE_GPTE;

  let ext = EXT_VALID;
  if (cr4 & CR4_SMEP) ext |= EXT_CR4_SMEP;
  if (cr4 & CR4_SMAP) ext |= EXT_CR4_SMAP;
  if (cr4 & CR4_PSE) ext |= EXT_CR4_PSE;
  // Protection keys and 5-level paging exist in long mode only.
  if (longMode && cr4 & CR4_PKE) ext |= EXT_CR4_PKE;
  if (longMode && cr4 & CR4_LA57) ext |= EXT_CR4_LA57;
  if (longMode) ext |= EXT_EFER_LMA;
  return { base: base >>> 0, ext };
}

/**
 * The CPU role of L1's nested page table, from the host registers that L1 saved at VMRUN.
 * Nested tables know no protection keys, so CR4.PKE is dropped (kvm_init_shadow_npt_mmu).
 */
export function nestedNptCpuRole(registers: RoleRegisters, mode: RoleMode = {}): CpuRole {
  return cpuRole({ ...registers, cr4: registers.cr4 & ~CR4_PKE }, { ...mode, guestMode: true });
}

/** L1's nested EPT. */
export interface NestedEpt {
  /** Levels of L1's EPT, 4 or 5 (EPTP bits 5:3 plus 1). */
  readonly level: number;
  /** EPTP bit 6: accessed and dirty flags. */
  readonly accessedDirty: boolean;
  /** L1 sees the execute-only capability. */
  readonly executeOnly: boolean;
}

/** The CPU role of L1's nested EPT, which depends on no control register. */
export function nestedEptCpuRole(ept: NestedEpt): CpuRole {
  let base = (role.ACC_ALL << role.ROLE_ACCESS_SHIFT) | role.ROLE_GUEST_MODE | (ept.level << role.ROLE_LEVEL_SHIFT);
  if (!ept.accessedDirty) base |= role.ROLE_AD_DISABLED;
  return { base: base >>> 0, ext: EXT_VALID | (ept.executeOnly ? EXT_EXECONLY : 0) };
}

/** A CPU role as one 64-bit number, as KVM stores it. */
export function joinCpuRole(cpu: CpuRole): bigint {
  return (BigInt(cpu.ext) << 32n) | BigInt(cpu.base);
}
