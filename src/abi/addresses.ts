/** What addresses are made of, and the words that the core makes of addresses. */
import type { BitLayout } from "./bits.js";

export const LINEAR: BitLayout = {
  prefix: "LINEAR",
  title: "Linear address of 64 bits",
  source: 'SDM vol. 3, "Linear-Address Masking"',
  fields: [
    { name: "SUPERVISOR", low: 63, meaning: "a supervisor's address: its setting of linear-address masking applies" },
  ],
};

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

/** The tag of a TLB_ENTRY. A canonical address has bits 63 and 62 equal, which GLOBAL makes differ. */
export const TLB_TAG: BitLayout = {
  prefix: "TLB_TAG",
  title: "Tag of the software TLB",
  source: "x86-paging",
  fields: [
    { name: "PCID", low: 0, width: 12, meaning: "process-context identifier, 0 in a global entry" },
    { name: "PAGE", low: 12, width: 52, meaning: "the page, with GLOBAL inverted in a global entry" },
    { name: "GLOBAL", low: 62, meaning: "inverted: the entry is global", shares: ["PAGE"] },
  ],
};

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
