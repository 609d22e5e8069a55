/**
 * Root roles: which table shadows a vCPU, in Linux 6.1's words (kvm61*) and in this
 * project's, where every root is an ordinary shadow page and its role says how far it
 * stands above the guest's own root.
 */
import type { CpuRole } from "./cpu-role.js";
import * as role from "./word.js";

/** PAE paging is the smallest format that shadow tables have. */
const PAE_LEVEL = 3;

/** What decides the level of two-dimensional tables (kvm_mmu_get_tdp_level). */
export interface TdpLevels {
  /** The level that the host's own paging forces (AMD), or 0. */
  readonly forced: number;
  /** The most levels that the processor's nested tables can have. */
  readonly max: number;
  /** MAXPHYADDR that the vCPU's CPUID reports. */
  readonly guestMaxPhysAddr: number;
}

/** Levels of a two-dimensional table; five only where a guest-physical address can need them. */
export function tdpLevel({ forced, max, guestMaxPhysAddr }: TdpLevels): number {
  if (forced !== 0) return forced;
  return max === 5 && guestMaxPhysAddr <= 48 ? 4 : max;
}

/**
 * 6.1's root role of a direct two-dimensional table (kvm_calc_tdp_mmu_root_page_role).
 * Nothing of the guest's paging mode is in it.
 */
export function kvm61DirectRoot(cpu: CpuRole, level: number, adBits: boolean): number {
  let root =
    (cpu.base & (role.ROLE_SMM | role.ROLE_GUEST_MODE)) |
    (role.ACC_ALL << role.ROLE_ACCESS_SHIFT) |
    role.ROLE_CR0_WP |
    role.ROLE_EFER_NX |
    role.ROLE_DIRECT |
    (level << role.ROLE_LEVEL_SHIFT);
  if (!adBits) root |= role.ROLE_AD_DISABLED;
  return root >>> 0;
}

/**
 * 6.1's root role of shadow paging (kvm_init_shadow_mmu): EFER.NXE is always on, because the
 * shadow tables use the bit whatever the guest does.
 */
export function kvm61ShadowRoot(cpu: CpuRole): number {
  return role.withLevel(cpu.base | role.ROLE_EFER_NX, Math.max(role.roleLevel(cpu.base), PAE_LEVEL));
}

/** 6.1's root role for L1's nested page table, shadowed at the host's own level (kvm_init_shadow_npt_mmu). */
export function kvm61NestedNptRoot(cpu: CpuRole, level: number): number {
  const passthrough = level === 5 && role.roleLevel(cpu.base) === 4;
  // `passthrough` and `level_promoted` share a position.
  return role.withFlag(role.withLevel(cpu.base, level), role.ROLE_LEVEL_PROMOTED, passthrough);
}

/** 6.1's root role for L1's nested EPT: the CPU role's page role. */
export function kvm61NestedEptRoot(cpu: CpuRole): number {
  return cpu.base;
}

/**
 * This project's form of a root role: the level, promoted if it stands above the guest's root,
 * `pae_root` exactly at level 3, and the guest's own level.
 * @param base page role with everything but these four; its `direct` bit counts.
 * @param guestRootLevel levels of the guest's own tables, 0 with paging off or in a direct root.
 * @param level levels of the shadow tables, at least `guestRootLevel`.
 */
export function rootOf(base: number, guestRootLevel: number, level: number): number {
  const direct = role.roleIsDirect(base);
  let root = role.withLevel(base, level);
  root = role.withFlag(root, role.ROLE_LEVEL_PROMOTED, !direct && level > guestRootLevel);
  root = role.withFlag(root, role.ROLE_PAE_ROOT, level === PAE_LEVEL);
  return role.withGuestLevel(root, direct ? 0 : guestRootLevel);
}

/**
 * Root role of shadow paging.
 * @param level levels of the shadow tables; by default the guest's own, at least 3.
 */
export function shadowRoot(cpu: CpuRole, level = Math.max(role.roleLevel(cpu.base), PAE_LEVEL)): number {
  return rootOf(cpu.base | role.ROLE_EFER_NX, role.roleLevel(cpu.base), level);
}

/** Root role of a direct two-dimensional table; 3 levels on a 32-bit host. */
export function directRoot(cpu: CpuRole, level: number, adBits: boolean): number {
  return rootOf(kvm61DirectRoot(cpu, level, adBits), 0, level);
}

/** Root role for L1's nested page table; `level` is that of the host's own nested tables. */
export function nestedNptRoot(cpu: CpuRole, level: number): number {
  return rootOf(cpu.base, role.roleLevel(cpu.base), level);
}

/** Root role for L1's nested EPT; `level` is that of the host's EPT, by default L1's. */
export function nestedEptRoot(cpu: CpuRole, level = role.roleLevel(cpu.base)): number {
  return rootOf(cpu.base, role.roleLevel(cpu.base), level);
}
