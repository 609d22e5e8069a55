/** What addresses are made of, and the words that the core makes of addresses. */
import type { BitLayout } from "./bits.js";

/** A linear address of 64 bits. */
export const LINEAR: BitLayout = {
  prefix: "LINEAR",
  title: "Linear address of 64 bits",
  source: 'SDM vol. 3, "Linear-Address Masking"',
  fields: [
    { name: "SUPERVISOR", low: 63, meaning: "a supervisor's address: its setting of linear-address masking applies" },
  ],
};

/** A linear address in PAE paging. */
export const PAE_LINEAR: BitLayout = {
  prefix: "PAE_LINEAR",
  title: "Linear address in PAE paging",
  source: 'SDM vol. 3, "PAE Paging"',
  fields: [
    { name: "OFFSET", low: 0, width: 12, meaning: "offset in a 4 KiB page" },
    { name: "TABLE", low: 12, width: 9, meaning: "entry of the page table" },
    { name: "DIRECTORY", low: 21, width: 9, meaning: "entry of the page directory" },
    { name: "POINTER", low: 30, width: 2, meaning: "PDPTE" },
  ],
};

/** The gate of a PC's address bus. */
export const GATE: BitLayout = {
  prefix: "GATE",
  title: "Physical address behind the A20 gate",
  source: "the processors' A20M# pin",
  fields: [{ name: "A20", low: 20, meaning: "0 while the gate holds the line low" }],
};

/** The tag of a TLB_ENTRY. A canonical address has bits 63 and 62 equal, which GLOBAL makes differ. */
export const TLB_TAG: BitLayout = {
  prefix: "TLB_TAG",
  title: "Tag of the software TLB",
  source: "x86-paging",
  fields: [
    { name: "CONTEXT", low: 0, width: 12, meaning: "number of the context (TLB_NAMES), or of the global entries" },
    { name: "PAGE", low: 12, width: 52, meaning: "the page, with GLOBAL inverted in a global entry" },
    { name: "GLOBAL", low: 62, meaning: "inverted: the entry is global", shares: ["PAGE"] },
  ],
};

/** Why a PLAN is blocked. */
export const PLAN_BLOCK: BitLayout = {
  prefix: "PLAN_BLOCK",
  title: "BLOCK of a plan",
  source: "x86-paging",
  fields: [
    { name: "RIGHTS", low: 0, meaning: "what the access needs is no set of bits to be asked for" },
    { name: "KEY", low: 1, meaning: "protection key 0 denies the access" },
  ],
};

/** The low bits of a TLB_LINE that are neither the page's nor an access's. */
export const LINE: BitLayout = {
  prefix: "LINE",
  title: "Mark of a line of the software TLB",
  source: "x86-paging",
  fields: [
    { name: "VALID", low: 0, meaning: "the line is one" },
    { name: "TAG_LOW", low: 3, meaning: "bit 0 of its context's tag" },
    { name: "TAG_MIDDLE", low: 5, width: 3, meaning: "bits 3:1 of it" },
    { name: "TAG_HIGH", low: 11, meaning: "bit 4 of it" },
  ],
};

/** FLAGS of a RESULT_LINE. */
export const LINE_FLAG: BitLayout = {
  prefix: "LINE_FLAG",
  title: "Flags of a result line",
  source: "x86-paging",
  fields: [
    { name: "GLOBAL", low: 0, meaning: "the page outlives a write to CR3: its leaf has G, and CR4.PGE is set" },
    {
      name: "DIRTY",
      low: 1,
      meaning: "every dirty flag of the leaf is set, or none is kept: writes need no walk to set one",
    },
    { name: "WATCHED", low: 2, meaning: "writes to the 4 KiB page at the physical address are noted" },
  ],
};

/** What `TLB_NAMES.CONTEXTS` has for a PCID. */
export const TLB_NAME: BitLayout = {
  prefix: "TLB_NAME",
  title: "Name of a PCID's context",
  source: "x86-paging",
  fields: [
    { name: "CONTEXT", low: 0, width: 12, meaning: "its number, 0: there is none" },
    { name: "TAG", low: 12, width: 5, meaning: "tag of its lines, where OWNERS says that it still has it" },
  ],
};

/** A batch's words. */
export const BATCH: BitLayout = {
  prefix: "BATCH",
  title: "Result of a batch's address that has no physical one",
  source: "x86-paging",
  fields: [
    { name: "CODE", low: 0, width: 16, meaning: "error code" },
    { name: "STATUS", low: 16, width: 8, meaning: "a Status" },
    { name: "FAULT", low: 63, meaning: "set: no physical address" },
  ],
};
