/**
 * Shadow page-table entries (SPTEs): the bits that KVM of Linux 6.1 gives a meaning of its own, and
 * the hardware's bits in the two formats that a shadow table can have.
 */
import { type BitLayout, bitOf, fieldOf } from "./bits.js";

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

/** Rights as roles and shadowed translations hold them. */
export const ACC: BitLayout = {
  prefix: "ACC",
  title: "Access rights of a role or a shadowed translation",
  source: "Linux 6.1 arch/x86/kvm/mmu.h (ACC_*_MASK)",
  fields: [
    { name: "EXEC", low: 0, meaning: "fetches" },
    { name: "WRITE", low: 1, meaning: "writes" },
    { name: "USER", low: 2, meaning: "user accesses" },
  ],
};

/** A non-present value that marks a TDP entry whose change is under way; it sets no right and no address. */
export const REMOVED_SPTE = 0x5a0n;

/** An entry that stands for nothing, since Linux 6.10; the marker above has the bit too then. */
export const EMPTY_BIT_63 = bitOf(SPTE_EPT, "SVE");

/** Bits of `shadow_nonpresent_or_rsvd_mask`: an MMIO entry's address bits under it move up by this many. */
export const NONPRESENT_OR_RSVD_BITS = 5;

/** A host page that does not exist: no memslot. */
export const PFN_NO_SLOT = 1n << 63n;

const adType = (value: number) => BigInt(value) << BigInt(fieldOf(SPTE, "AD_TYPE").low);

/** The bits of a memslot generation that an MMIO SPTE has. */
export const MMIO_GENERATION = (1n << BigInt(SPTE_MMIO.fields.reduce((bits, { width = 1 }) => bits + width, 0))) - 1n;

/** Values that the core makes of these layouts, with the width that it needs them in. */
export const SPTE_VALUES: readonly {
  readonly name: string;
  readonly type: "u32" | "u64";
  readonly value: bigint;
  readonly meaning: string;
}[] = [
  // At the same place in EPT, where they are the rights to read and to write.
  {
    name: "SPTE_P",
    type: "u64",
    value: bitOf(SPTE_LEGACY, "P"),
    meaning: "Present for the processor; readable in EPT",
  },
  { name: "SPTE_W", type: "u64", value: bitOf(SPTE_LEGACY, "RW"), meaning: "Writable" },
  { name: "SPTE_AD_DISABLED", type: "u64", value: adType(SPTE_AD.Disabled), meaning: "SPTE.AD_TYPE: no A and D bits" },
  {
    name: "SPTE_AD_WRITE_PROTECT_ONLY",
    type: "u64",
    value: adType(SPTE_AD.WriteProtect),
    meaning: "SPTE.AD_TYPE: A bits, but writes are found by write protection",
  },
  {
    name: "SPTE_REMOVED",
    type: "u64",
    value: REMOVED_SPTE,
    meaning: "An entry of the TDP MMU whose table is being taken away: nobody may make it present meanwhile",
  },
  {
    name: "SPTE_SAVED_BITS",
    type: "u64",
    value: (bitOf(SPTE, "SAVED_R") | bitOf(SPTE, "SAVED_X")) >> BigInt(fieldOf(SPTE, "SAVED_R").low),
    meaning: "The rights that access tracking saves, as EPT has them",
  },
  {
    name: "SPTE_SAVED_SHIFT",
    type: "u64",
    value: BigInt(fieldOf(SPTE, "SAVED_R").low),
    meaning: "How far up it saves them",
  },
  {
    name: "SPTE_MOVED_GFN_LENGTH",
    type: "u64",
    value: BigInt(NONPRESENT_OR_RSVD_BITS),
    meaning: "Length of the part of an MMIO SPTE's gfn that moves up",
  },
  {
    name: "MMIO_GENERATION_LOW",
    type: "u64",
    value: bitOf(SPTE_MMIO, "GEN_LOW"),
    meaning: "Where an MMIO SPTE has the low bits of its generation",
  },
  { name: "MMIO_GENERATION_HIGH", type: "u64", value: bitOf(SPTE_MMIO, "GEN_HIGH"), meaning: "And where the others" },
  {
    name: "MMIO_GENERATION",
    type: "u64",
    value: MMIO_GENERATION,
    meaning: "The bits of a memslot generation that an MMIO SPTE has",
  },
  {
    name: "ACC_ALL",
    type: "u32",
    value: ACC.fields.reduce((all, { low }) => all | (1n << BigInt(low)), 0n),
    meaning: "Every right",
  },
  { name: "PFN_NO_SLOT", type: "u64", value: PFN_NO_SLOT, meaning: "A host page that does not exist: no memslot" },
  {
    name: "PFN_READ_ONLY",
    type: "u64",
    value: 1n << 62n,
    meaning: "A host page that may not be written: a write to a read-only memslot",
  },
];
