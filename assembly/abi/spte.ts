// SPTE bits that no mask variable holds.

/** Present for KVM, whatever the hardware's bits say. */
// @ts-ignore: decorator
@inline export const SPTE_MMU_PRESENT: u64 = 1 << 11;
// @ts-ignore: decorator
@inline export const SPTE_P: u64 = 1;
/** Writable, at the same place in legacy and EPT entries. */
// @ts-ignore: decorator
@inline export const SPTE_W: u64 = 2;
// @ts-ignore: decorator
@inline export const SPTE_PS: u64 = 1 << 7;
// @ts-ignore: decorator
@inline export const SPTE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
// @ts-ignore: decorator
@inline export const SPTE_AD_TYPE: u64 = 3 << 52;
// @ts-ignore: decorator
@inline export const SPTE_AD_DISABLED: u64 = 1 << 52;
// @ts-ignore: decorator
@inline export const SPTE_AD_WRITE_PROTECT_ONLY: u64 = 2 << 52;
/** An entry of the TDP MMU whose table is being taken away: nobody may make it present meanwhile. */
// @ts-ignore: decorator
@inline export const SPTE_REMOVED: u64 = 0x5a0;
// @ts-ignore: decorator
@inline export const SPTE_SAVED_BITS: u64 = 5;
// @ts-ignore: decorator
@inline export const SPTE_SAVED_SHIFT: u64 = 54;
/** Length of the part of an MMIO SPTE's gfn that moves up. */
// @ts-ignore: decorator
@inline export const SPTE_MOVED_GFN_LENGTH: u64 = 5;
// @ts-ignore: decorator
@inline export const MMIO_GENERATION: u64 = 0x7ffff;
// @ts-ignore: decorator
@inline export const MMIO_GENERATION_LOW: u64 = 0x7f8;
// @ts-ignore: decorator
@inline export const MMIO_GENERATION_HIGH: u64 = 0x7ff << 52;

// @ts-ignore: decorator
@inline export const ACC_EXEC: u32 = 1;
// @ts-ignore: decorator
@inline export const ACC_WRITE: u32 = 2;
// @ts-ignore: decorator
@inline export const ACC_USER: u32 = 4;
// @ts-ignore: decorator
@inline export const ACC_ALL: u32 = 7;
/** A host page that does not exist: no memslot. */
// @ts-ignore: decorator
@inline export const PFN_NO_SLOT: u64 = 1 << 63;
/** A host page that may not be written: a write to a read-only memslot. */
// @ts-ignore: decorator
@inline export const PFN_READ_ONLY: u64 = 1 << 62;

// @ts-ignore: decorator
@inline export const PFERR_P: u32 = 1;
// @ts-ignore: decorator
@inline export const PFERR_W: u32 = 2;
// @ts-ignore: decorator
@inline export const PFERR_U: u32 = 4;
// @ts-ignore: decorator
@inline export const PFERR_RSVD: u32 = 8;
// @ts-ignore: decorator
@inline export const PFERR_I: u32 = 16;
// @ts-ignore: decorator
@inline export const PFERR_PK: u32 = 32;
