// Page role of this project: the 6.1 layout with level_promoted, pae_root and the guest level.

// @ts-ignore: decorator
@inline export const ROLE_LEVEL: u32 = 0xf;
// @ts-ignore: decorator
@inline export const ROLE_HAS_4_BYTE_GPTE: u32 = 0x10;
// @ts-ignore: decorator
@inline export const ROLE_QUADRANT: u32 = 0x60;
// @ts-ignore: decorator
@inline export const ROLE_QUADRANT_SHIFT: u32 = 5;
// @ts-ignore: decorator
@inline export const ROLE_DIRECT: u32 = 0x80;
// @ts-ignore: decorator
@inline export const ROLE_ACCESS: u32 = 0x700;
// @ts-ignore: decorator
@inline export const ROLE_ACCESS_SHIFT: u32 = 8;
// @ts-ignore: decorator
@inline export const ROLE_INVALID: u32 = 0x800;
// @ts-ignore: decorator
@inline export const ROLE_AD_DISABLED: u32 = 0x10000;
// @ts-ignore: decorator
@inline export const ROLE_GUEST_MODE: u32 = 0x20000;
// @ts-ignore: decorator
@inline export const ROLE_LEVEL_PROMOTED: u32 = 0x40000;
// @ts-ignore: decorator
@inline export const ROLE_PAE_ROOT: u32 = 0x80000;
// @ts-ignore: decorator
@inline export const ROLE_GUEST_LEVEL: u32 = 0x700000;
// @ts-ignore: decorator
@inline export const ROLE_GUEST_LEVEL_SHIFT: u32 = 20;
// @ts-ignore: decorator
@inline export const ROLE_SMM: u32 = 0xff000000;
