/**
 * This project's page role as a plain 32-bit number, for the engine's hot paths:
 * shifts and masks come from the table once, at load. The fields below bit 18 are
 * those of Linux 5.17 to 6.16, so these functions read recorded 6.1 words too.
 */
import { type BitLayout, bitOf, fieldOf, maskOf } from "../abi/bits.js";
import { ACC } from "../abi/spte.js";
import { PROJECT_ROLE } from "./layouts.js";

const mask = (name: string, layout: BitLayout = PROJECT_ROLE): number => Number(maskOf(fieldOf(layout, name)));
const shift = (name: string, layout: BitLayout = PROJECT_ROLE): number => fieldOf(layout, name).low;

/** In-place masks of the fields. */
export const ROLE_LEVEL = mask("level");
/** The bit `has_4_byte_gpte`. */
export const ROLE_4_BYTE_GPTE = mask("has_4_byte_gpte");
/** The bits of `quadrant`. */
export const ROLE_QUADRANT = mask("quadrant");
/** The bit `direct`. */
export const ROLE_DIRECT = mask("direct");
/** The bits of `access`. */
export const ROLE_ACCESS = mask("access");
/** The bit `invalid`. */
export const ROLE_INVALID = mask("invalid");
/** The bit `efer_nx`. */
export const ROLE_EFER_NX = mask("efer_nx");
/** The bit `cr0_wp`. */
export const ROLE_CR0_WP = mask("cr0_wp");
/** The bit `smep_andnot_wp`. */
export const ROLE_SMEP_ANDNOT_WP = mask("smep_andnot_wp");
/** The bit `smap_andnot_wp`. */
export const ROLE_SMAP_ANDNOT_WP = mask("smap_andnot_wp");
/** The bit `ad_disabled`. */
export const ROLE_AD_DISABLED = mask("ad_disabled");
/** The bit `guest_mode`. */
export const ROLE_GUEST_MODE = mask("guest_mode");
/** The bit `level_promoted`. */
export const ROLE_LEVEL_PROMOTED = mask("level_promoted");
/** The bit `pae_root`. */
export const ROLE_PAE_ROOT = mask("pae_root");
/** The bits of `guest_level`. */
export const ROLE_GUEST_LEVEL = mask("guest_level");
/** Bits 31:24; `mask` is unsigned, so is this. */
export const ROLE_SMM = mask("smm");

/** Lowest bit of `level`. */
export const ROLE_LEVEL_SHIFT = shift("level");
/** Lowest bit of `quadrant`. */
export const ROLE_QUADRANT_SHIFT = shift("quadrant");
/** Lowest bit of `access`. */
export const ROLE_ACCESS_SHIFT = shift("access");
/** Lowest bit of `guest_level`. */
export const ROLE_GUEST_LEVEL_SHIFT = shift("guest_level");
/** Lowest bit of `smm`. */
export const ROLE_SMM_SHIFT = shift("smm");

/** Rights in the access field. */
export const ACC_EXEC = Number(bitOf(ACC, "EXEC"));
/** `access`: write. */
export const ACC_WRITE = Number(bitOf(ACC, "WRITE"));
/** `access`: user. */
export const ACC_USER = Number(bitOf(ACC, "USER"));
/** `access`: everything. */
export const ACC_ALL = ACC_EXEC | ACC_WRITE | ACC_USER;

/** Paging level of the page, 0 to 5. */
export function roleLevel(role: number): number {
  return (role & ROLE_LEVEL) >>> ROLE_LEVEL_SHIFT;
}

/** Part of a 4-byte-entry guest table, 0 to 3. */
export function roleQuadrant(role: number): number {
  return (role & ROLE_QUADRANT) >>> ROLE_QUADRANT_SHIFT;
}

/** ACC_* bits. */
export function roleAccess(role: number): number {
  return (role & ROLE_ACCESS) >>> ROLE_ACCESS_SHIFT;
}

/** min(guest root level, page level), 0 in a direct page. */
export function roleGuestLevel(role: number): number {
  return (role & ROLE_GUEST_LEVEL) >>> ROLE_GUEST_LEVEL_SHIFT;
}

/** Index of the memslot address space: 1 in system-management mode. */
export function roleSmm(role: number): number {
  return role >>> ROLE_SMM_SHIFT;
}

/** Whether the page shadows no table: its gfns are linear in its entries. */
export function roleIsDirect(role: number): boolean {
  return (role & ROLE_DIRECT) !== 0;
}

/** Whether the page is zapped and waits for its last root reference. */
export function roleIsInvalid(role: number): boolean {
  return (role & ROLE_INVALID) !== 0;
}

/** Whether the shadowed table has entries of 4 bytes. */
export function roleHas4ByteGpte(role: number): boolean {
  return (role & ROLE_4_BYTE_GPTE) !== 0;
}

/** Whether the page stands above the guest's own levels. */
export function roleIsPromoted(role: number): boolean {
  return (role & ROLE_LEVEL_PROMOTED) !== 0;
}

/** Whether the page is the four-entry root of a PAE shadow table. */
export function roleIsPaeRoot(role: number): boolean {
  return (role & ROLE_PAE_ROOT) !== 0;
}

/** Whether its entries have no accessed and dirty bits. */
export function roleIsAdDisabled(role: number): boolean {
  return (role & ROLE_AD_DISABLED) !== 0;
}

/** Whether it serves a nested guest. */
export function roleIsGuestMode(role: number): boolean {
  return (role & ROLE_GUEST_MODE) !== 0;
}

/** Whether guest entries stand behind the page's entries (sp_has_gptes of kvm/mmu/mmu.c). */
export function roleHasGptes(role: number): boolean {
  return (role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) === 0;
}

/** `role` with another level; `level` is 0 to 5. */
export function withLevel(role: number, level: number): number {
  return ((role & ~ROLE_LEVEL) | (level << ROLE_LEVEL_SHIFT)) >>> 0;
}

/** `role` with another quadrant; `quadrant` is 0 to 3. */
export function withQuadrant(role: number, quadrant: number): number {
  return ((role & ~ROLE_QUADRANT) | (quadrant << ROLE_QUADRANT_SHIFT)) >>> 0;
}

/** `role` with other inherited rights; `access` is an OR of ACC_*. */
export function withAccess(role: number, access: number): number {
  return ((role & ~ROLE_ACCESS) | (access << ROLE_ACCESS_SHIFT)) >>> 0;
}

/** `role` with another guest level; `level` is 0 to 5. */
export function withGuestLevel(role: number, level: number): number {
  return ((role & ~ROLE_GUEST_LEVEL) | (level << ROLE_GUEST_LEVEL_SHIFT)) >>> 0;
}

/** `role` with the bits of `flag` (a one-bit ROLE_* mask) set or cleared. */
export function withFlag(role: number, flag: number, set: boolean): number {
  return (set ? role | flag : role & ~flag) >>> 0;
}
