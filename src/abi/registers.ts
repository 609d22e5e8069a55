/** Control-register bits that paging depends on. */
import type { BitLayout } from "./bits.js";

const CONTROL_REGISTERS = 'SDM vol. 3, "Control Registers"';

/** Bits of CR0 that paging depends on. */
export const CR0: BitLayout = {
  prefix: "CR0",
  title: "CR0",
  source: CONTROL_REGISTERS,
  fields: [
    { name: "PE", low: 0, meaning: "protected mode" },
    { name: "EM", low: 2, meaning: "no x87 floating-point unit" },
    { name: "TS", low: 3, meaning: "the task was switched" },
    { name: "ET", low: 4, meaning: "extension type, always 1" },
    { name: "WP", low: 16, meaning: "supervisor writes respect read-only pages" },
    { name: "NW", low: 29, meaning: "not write-through" },
    { name: "CD", low: 30, meaning: "caches disabled" },
    { name: "PG", low: 31, meaning: "paging enabled" },
  ],
};

/** CR3 with 4-level and 5-level paging. */
export const CR3: BitLayout = {
  prefix: "CR3",
  title: "CR3",
  source: 'SDM vol. 3, "Paging" (use of CR3 with each paging mode)',
  fields: [
    { name: "PWT", low: 3, meaning: "write-through for the root table (CR4.PCIDE=0)" },
    { name: "PCD", low: 4, meaning: "root table uncached (CR4.PCIDE=0)" },
    { name: "PCID", low: 0, width: 12, meaning: "process-context identifier (CR4.PCIDE=1)", shares: ["PWT", "PCD"] },
    { name: "LAM_U57", low: 61, meaning: "user addresses carry metadata in bits 62:57" },
    { name: "LAM_U48", low: 62, meaning: "user addresses carry metadata in bits 62:48" },
    { name: "NOFLUSH", low: 63, meaning: "MOV CR3 keeps the PCID's TLB entries (never stored)" },
  ],
};

/** CR3 in PAE paging, 32 bits wide. */
export const CR3_PAE: BitLayout = {
  prefix: "CR3_PAE",
  title: "CR3 with PAE paging",
  source: 'SDM vol. 3, "PAE Paging" (use of CR3)',
  fields: [{ name: "PDPT", low: 5, width: 27, meaning: "physical address of the page-directory-pointer table" }],
};

/** Bits of CR4 that paging depends on. */
export const CR4: BitLayout = {
  prefix: "CR4",
  title: "CR4",
  source: CONTROL_REGISTERS,
  fields: [
    { name: "PSE", low: 4, meaning: "4 MiB pages in 32-bit paging" },
    { name: "PAE", low: 5, meaning: "8-byte paging-structure entries" },
    { name: "PGE", low: 7, meaning: "global pages" },
    { name: "LA57", low: 12, meaning: "5-level paging" },
    { name: "PCIDE", low: 17, meaning: "process-context identifiers" },
    { name: "SMEP", low: 20, meaning: "no supervisor fetches from user pages" },
    { name: "SMAP", low: 21, meaning: "no supervisor data accesses to user pages" },
    { name: "PKE", low: 22, meaning: "protection keys for user-mode addresses (PKRU)" },
    { name: "CET", low: 23, meaning: "control-flow enforcement; needs CR0.WP" },
    { name: "PKS", low: 24, meaning: "protection keys for supervisor-mode addresses (IA32_PKRS)" },
    { name: "LASS", low: 27, meaning: "linear-address-space separation: each mode has one half of the addresses" },
    { name: "LAM_SUP", low: 28, meaning: "supervisor addresses carry metadata above bit 56 or 47" },
  ],
};

/** A key's two bits in PKRU or IA32_PKRS; those of key i lie 2 * i higher. */
export const KEY_RIGHTS: BitLayout = {
  prefix: "KEY_RIGHTS",
  title: "Rights register of protection keys, the pair of one key",
  source: 'SDM vol. 3, "Protection Keys"',
  fields: [
    { name: "AD", low: 0, meaning: "no data accesses" },
    { name: "WD", low: 1, meaning: "no writes" },
  ],
};

/** Bits of IA32_EFER that paging depends on. */
export const EFER: BitLayout = {
  prefix: "EFER",
  title: "IA32_EFER",
  source: 'SDM vol. 3, "Extended Feature Enable Register"; APM vol. 2, "Extended Feature Enable Register (EFER)"',
  fields: [
    { name: "LME", low: 8, meaning: "long mode enabled" },
    { name: "LMA", low: 10, meaning: "long mode active" },
    { name: "NXE", low: 11, meaning: "execute-disable bit enabled" },
    { name: "UAIE", low: 20, meaning: "AMD: bits 63:57 of data addresses are ignored (upper address ignore)" },
  ],
};

/** The extended-page-table pointer. */
export const EPTP: BitLayout = {
  prefix: "EPTP",
  title: "Extended-page-table pointer",
  source: 'SDM vol. 3, "Extended-Page-Table Pointer (EPTP)"',
  fields: [
    {
      name: "MEMTYPE",
      low: 0,
      width: 3,
      meaning: "memory type of the EPT structures",
      values: { 0: "uncacheable", 6: "write back" },
    },
    {
      name: "WALK_LENGTH",
      low: 3,
      width: 3,
      meaning: "EPT page-walk length minus 1",
      values: { 3: "4 levels", 4: "5 levels" },
    },
    { name: "AD", low: 6, meaning: "accessed and dirty flags enabled" },
    { name: "SSS", low: 7, meaning: "supervisor shadow-stack control enabled" },
    { name: "RESERVED", low: 8, width: 4, meaning: "must be 0" },
    { name: "ADDRESS", low: 12, width: 40, meaning: "physical address of the root table" },
  ],
};
