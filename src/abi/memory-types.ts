/** Registers that memory types come from, and the types' numbers. */
import type { BitField, BitLayout } from "./bits.js";

/** Numbers of memory types in IA32_PAT and the MTRRs; UC- is one of IA32_PAT only (SDM vol. 3, "Memory Types"). */
export const TYPE_NUMBERS = { UC: 0, WC: 1, WT: 4, WP: 5, WB: 6, "UC-": 7 } as const;

export type PatType = keyof typeof TYPE_NUMBERS;

const PAT_ENTRIES = [0, 1, 2, 3, 4, 5, 6, 7].map(
  (index): BitField => ({
    name: `PA${index}`,
    low: 8 * index,
    width: 8,
    meaning: `memory type of pages with PAT index ${index}`,
  }),
);

export const PAT: BitLayout = {
  prefix: "PAT",
  title: "IA32_PAT",
  source: 'SDM vol. 3, "IA32_PAT MSR"',
  fields: PAT_ENTRIES,
};

export const MTRR_DEF_TYPE: BitLayout = {
  prefix: "MTRR_DEF_TYPE",
  title: "IA32_MTRR_DEF_TYPE",
  source: 'SDM vol. 3, "IA32_MTRR_DEF_TYPE MSR"',
  fields: [
    { name: "TYPE", low: 0, width: 8, meaning: "memory type of what no MTRR maps" },
    { name: "FE", low: 10, meaning: "fixed-range MTRRs are enabled" },
    { name: "E", low: 11, meaning: "MTRRs are enabled; else everything is UC" },
  ],
};

export const MTRR_PHYS_BASE: BitLayout = {
  prefix: "MTRR_PHYS_BASE",
  title: "IA32_MTRR_PHYSBASEn",
  source: 'SDM vol. 3, "Variable Range MTRRs"',
  fields: [
    { name: "TYPE", low: 0, width: 8, meaning: "memory type of the range" },
    { name: "BASE", low: 12, width: 40, meaning: "bits 51:12 of its address" },
  ],
};

export const MTRR_PHYS_MASK: BitLayout = {
  prefix: "MTRR_PHYS_MASK",
  title: "IA32_MTRR_PHYSMASKn",
  source: 'SDM vol. 3, "Variable Range MTRRs"',
  fields: [
    { name: "V", low: 11, meaning: "the range counts" },
    { name: "MASK", low: 12, width: 40, meaning: "address bits that have to be those of BASE" },
  ],
};

const KIB = 1024;

/** The fixed-range MTRRs: where each begins, and the bytes that each of its eight fields stands for (SDM vol. 3, "Fixed Range MTRRs"). */
export const FIXED_MTRRS: readonly { readonly from: number; readonly unit: number }[] = [
  { from: 0, unit: 64 * KIB },
  ...[0, 1].map((index) => ({ from: (512 + 128 * index) * KIB, unit: 16 * KIB })),
  ...[0, 1, 2, 3, 4, 5, 6, 7].map((index) => ({ from: (768 + 32 * index) * KIB, unit: 4 * KIB })),
];

/** First address that no fixed-range MTRR maps. */
export const FIXED_MTRRS_END = 1024 * KIB;
