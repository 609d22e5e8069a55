/**
 * Shadow page-table entries (SPTEs): the bits that KVM of Linux 6.1 gives a meaning of its own, and
 * the hardware's bits in the two formats that a shadow table can have.
 */
import type { BitLayout } from "./bits.js";

/** Software bits that both formats share. */
export const SPTE: BitLayout = {
  prefix: "SPTE",
  title: "Shadow page-table entry, software bits of both formats",
  source: "Linux 6.1 arch/x86/kvm/mmu/spte.h",
  fields: [
    { name: "PS", low: 7, meaning: "maps a large page" },
    { name: "MMU_PRESENT", low: 11, meaning: "backed by memory: not an MMIO or removed entry" },
    { name: "ADDRESS", low: 12, width: 40, meaning: "host-physical address of the page or table" },
    { name: "AD_TYPE", low: 52, width: 2, meaning: "tracking of accesses and writes: see SPTE_AD" },
    { name: "SAVED_R", low: 54, meaning: "read right before access tracking" },
    { name: "SAVED_X", low: 56, meaning: "execute right before access tracking" },
  ],
};

/** Values of SPTE.AD_TYPE. */
export const SPTE_AD = {
  /** Accessed and dirty bits; the only value that PAE shadow tables allow. */
  Enabled: 0,
  /** No accessed and dirty bits: accesses are tracked by taking the rights away. */
  Disabled: 1,
  /** Accessed bits, but writes are found by write protection (nested guest with a page-modification log). */
  WriteProtect: 2,
} as const;

/** Shadow paging and NPT. */
export const SPTE_LEGACY: BitLayout = {
  prefix: "SPTE_LEGACY",
  title: "Shadow page-table entry, legacy format (shadow paging, NPT)",
  source: 'Linux 6.1 kvm_mmu_reset_all_pte_masks; APM vol. 2, "Long-Mode Page Translation"',
  fields: [
    { name: "P", low: 0, meaning: "present" },
    { name: "RW", low: 1, meaning: "writable" },
    { name: "US", low: 2, meaning: "user accesses allowed" },
    { name: "A", low: 5, meaning: "accessed" },
    { name: "D", low: 6, meaning: "dirty" },
    { name: "HOST_WRITABLE", low: 9, meaning: "the host's own page is writable" },
    { name: "MMU_WRITABLE", low: 10, meaning: "KVM may make the entry writable without its lock" },
    { name: "MMIO_RSVD", low: 51, meaning: "reserved address bit that marks MMIO entries" },
    { name: "NX", low: 63, meaning: "execute-disable" },
  ],
};

/** EPT. */
export const SPTE_EPT: BitLayout = {
  prefix: "SPTE_EPT",
  title: "Shadow page-table entry, EPT format",
  source: 'Linux 6.1 kvm_mmu_set_ept_masks; SDM vol. 3, "The Extended Page Table Mechanism (EPT)"',
  fields: [
    { name: "R", low: 0, meaning: "readable" },
    { name: "W", low: 1, meaning: "writable" },
    { name: "X", low: 2, meaning: "executable" },
    { name: "MEMTYPE", low: 3, width: 3, meaning: "memory type" },
    { name: "IPAT", low: 6, meaning: "ignore the guest's PAT" },
    { name: "A", low: 8, meaning: "accessed" },
    { name: "D", low: 9, meaning: "dirty" },
    { name: "HOST_WRITABLE", low: 57, meaning: "the host's own page is writable" },
    { name: "MMU_WRITABLE", low: 58, meaning: "KVM may make the entry writable without its lock" },
    { name: "SVE", low: 63, meaning: "suppress #VE" },
  ],
};

/** Where an MMIO SPTE keeps the 19 bits of its generation. */
export const SPTE_MMIO: BitLayout = {
  prefix: "SPTE_MMIO",
  title: "MMIO shadow page-table entry",
  source: "Linux 6.1 arch/x86/kvm/mmu/spte.h (MMIO_SPTE_GEN_*)",
  fields: [
    { name: "GEN_LOW", low: 3, width: 8, meaning: "bits 7:0 of the memslot generation" },
    { name: "GEN_HIGH", low: 52, width: 11, meaning: "bits 18:8 of the memslot generation" },
  ],
};

/** A non-present value that marks a TDP entry whose change is under way; it sets no right and no address. */
export const REMOVED_SPTE = 0x5a0n;

/** Bits of `shadow_nonpresent_or_rsvd_mask`: an MMIO entry's address bits under it move up by this many. */
export const NONPRESENT_OR_RSVD_BITS = 5;
