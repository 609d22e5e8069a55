/** Paging-structure entries, one layout per format. */
import { type BitField, type BitLayout, maskOf } from "./bits.js";

/** 8-byte entries of PAE, 4-level and 5-level paging (and NPT), all levels but the PAE PDPTE. */
export const PTE: BitLayout = {
  prefix: "PTE",
  title: "Paging-structure entry (8 bytes)",
  source: 'SDM vol. 3, "4-Level Paging and 5-Level Paging" and "PAE Paging"; APM vol. 2, "Long-Mode Page Translation"',
  fields: [
    { name: "P", low: 0, meaning: "present" },
    { name: "RW", low: 1, meaning: "writable" },
    { name: "US", low: 2, meaning: "user accesses allowed" },
    { name: "PWT", low: 3, meaning: "page-level write-through" },
    { name: "PCD", low: 4, meaning: "page-level cache disable" },
    { name: "A", low: 5, meaning: "accessed" },
    { name: "D", low: 6, meaning: "dirty" },
    { name: "PS", low: 7, meaning: "maps a large page" },
    { name: "G", low: 8, meaning: "global" },
    { name: "ADDRESS", low: 12, width: 40, meaning: "physical address of the table or page" },
    { name: "PKEY", low: 59, width: 4, meaning: "protection key" },
    { name: "XD", low: 63, meaning: "execute-disable" },
  ],
};

/** In a level-1 entry of any format but EPT, where other entries have PS. */
export const PAT_4K: BitField = { name: "PAT", low: 7, meaning: "page-attribute table index, high bit" };

/** 4-byte entries of 32-bit paging. */
export const PTE32: BitLayout = {
  prefix: "PTE32",
  title: "Paging-structure entry (4 bytes)",
  source: 'SDM vol. 3, "32-Bit Paging"',
  fields: [
    { name: "P", low: 0, meaning: "present" },
    { name: "RW", low: 1, meaning: "writable" },
    { name: "US", low: 2, meaning: "user accesses allowed" },
    { name: "PWT", low: 3, meaning: "page-level write-through" },
    { name: "PCD", low: 4, meaning: "page-level cache disable" },
    { name: "A", low: 5, meaning: "accessed" },
    { name: "D", low: 6, meaning: "dirty" },
    { name: "PS", low: 7, meaning: "maps a 4 MiB page (CR4.PSE=1)" },
    { name: "G", low: 8, meaning: "global" },
    { name: "ADDRESS", low: 12, width: 20, meaning: "physical address of the table or page" },
  ],
};

/** Fields of a 4 MiB page's PDE that differ from PTE32. */
export const PDE4M: BitLayout = {
  prefix: "PDE4M",
  title: "PDE that maps a 4 MiB page",
  source: 'SDM vol. 3, "32-Bit Paging" (format of a 32-bit PDE that maps a 4-MByte page)',
  fields: [
    { name: "PAT", low: 12, meaning: "page-attribute table index, high bit" },
    { name: "ADDRESS_HIGH", low: 13, width: 8, meaning: "bits 39:32 of the page's address (PSE-36)" },
    { name: "ADDRESS", low: 22, width: 10, meaning: "bits 31:22 of the page's address" },
  ],
};

/** PAE page-directory-pointer-table entries: no rights, no accessed bit. */
export const PDPTE_PAE: BitLayout = {
  prefix: "PDPTE_PAE",
  title: "PAE page-directory-pointer-table entry",
  source: 'SDM vol. 3, "PDPTE Registers"',
  fields: [
    { name: "P", low: 0, meaning: "present" },
    { name: "PWT", low: 3, meaning: "page-level write-through" },
    { name: "PCD", low: 4, meaning: "page-level cache disable" },
    { name: "ADDRESS", low: 12, width: 40, meaning: "physical address of the page directory" },
  ],
};

/** LARGE_LEVELS of a space: bit n is level n. */
export const LARGE: BitLayout = {
  prefix: "LARGE",
  title: "Levels whose entries may map a page",
  source: "x86-paging",
  fields: [
    { name: "LEVEL_2", low: 2, meaning: "pages of 2 MiB, or 4 MiB in 32-bit paging" },
    { name: "LEVEL_3", low: 3, meaning: "pages of 1 GiB" },
  ],
};

/** What the values of a memory type of three bits are called; the others do not exist. */
export const TYPE_NAMES: Readonly<Record<number, string>> = {
  0: "uncacheable",
  1: "write combining",
  4: "write through",
  5: "write protected",
  6: "write back",
};

/** Bit n is the type that a memory-type field has n for; the others do not exist. */
export const MEMORY_TYPE: BitLayout = {
  prefix: "MEMORY_TYPE",
  title: "Memory types",
  source: 'SDM vol. 3, "EPT Misconfigurations" and "Memory Types"',
  fields: [
    { name: "UC", low: 0, meaning: "uncacheable" },
    { name: "WC", low: 1, meaning: "write combining" },
    { name: "WT", low: 4, meaning: "write through" },
    { name: "WP", low: 5, meaning: "write protected" },
    { name: "WB", low: 6, meaning: "write back" },
  ],
};

/** Bits 2:1 and 8:5 of a PAE PDPTE, which it must not have set when it is loaded. */
export const PDPTE_PAE_RESERVED =
  maskOf({ name: "RESERVED_LOW", low: 1, width: 2, meaning: "must be zero" }) |
  maskOf({ name: "RESERVED_HIGH", low: 5, width: 4, meaning: "must be zero" });

/** Bits that the processor ignores in entries of 4 and 8 bytes, whatever they map. */
export const IGNORED: BitField = { name: "IGNORED", low: 9, width: 3, meaning: "free for the system" };

/** EPT: ignored with and without mode-based execute control. */
export const EPT_IGNORED: BitField = { name: "IGNORED", low: 11, meaning: "free for the system" };

/** EPT entries, all levels. */
export const EPT: BitLayout = {
  prefix: "EPT",
  title: "EPT paging-structure entry",
  source: 'SDM vol. 3, "The Extended Page Table Mechanism (EPT)"',
  fields: [
    { name: "R", low: 0, meaning: "read access" },
    { name: "W", low: 1, meaning: "write access" },
    { name: "X", low: 2, meaning: "execute access (supervisor-mode addresses only with mode-based execute control)" },
    { name: "MEMTYPE", low: 3, width: 3, meaning: "memory type", values: TYPE_NAMES },
    { name: "IPAT", low: 6, meaning: "ignore the guest's PAT" },
    { name: "PS", low: 7, meaning: "maps a large page" },
    { name: "A", low: 8, meaning: "accessed (EPTP bit 6 set)" },
    { name: "D", low: 9, meaning: "dirty (EPTP bit 6 set)" },
    { name: "XU", low: 10, meaning: "execute access for user-mode addresses (mode-based execute control)" },
    { name: "ADDRESS", low: 12, width: 40, meaning: "physical address of the table or page" },
    { name: "VPW", low: 57, meaning: "guest-paging verification of the page" },
    { name: "PW", low: 58, meaning: "the guest's paging may write the page (EPT paging-write control)" },
    { name: "SSS", low: 60, meaning: "supervisor shadow-stack page (EPTP bit 7 set)" },
    { name: "SPP", low: 61, meaning: "writes by sub-page permissions" },
    { name: "SVE", low: 63, meaning: "suppress #VE" },
  ],
};
