/**
 * The SPTE layouts of every era of KVM, oldest first: what each changes of the one before, and where that was read. Sources are
 * below arch/x86/kvm. "Debian" is the distribution's source package; the other trees are imports of releases.
 */
import { type BitField, type BitLayout, fieldOf } from "./bits.js";
import { EMPTY_BIT_63, SPTE_EPT, SPTE_LEGACY } from "./spte.js";
import { type GenerationPart, SPTE_6_1, type SpteLayout } from "./spte-layout.js";

/** Names of the eras: the first kernel release with that layout. */
export const SPTE_ERAS = [
  "4.19",
  "5.1",
  "5.4",
  "5.6",
  "5.7.3",
  "5.4.85",
  "5.8",
  "5.10",
  "5.12",
  "5.13",
  "6.10",
  "6.11",
  "6.13",
  "6.16",
  "7.2",
] as const;
export type SpteEra = (typeof SPTE_ERAS)[number];

/** One thing that an era changes. */
export interface SpteChange {
  readonly what: string;
  /** File and definition. */
  readonly source: string;
}

export interface SpteEraEntry {
  readonly era: SpteEra;
  /** First and last release, both included; a series without a sublevel is its first release, `x` its last; no last: all later. */
  readonly releases: readonly (readonly [first: string, last?: string])[];
  /** Trees in which the layout was read, and what was not. */
  readonly checked: string;
  readonly changes: readonly SpteChange[];
  readonly layout: SpteLayout;
}

const bits = (low: number, high = low): bigint => ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);

/** The layout with some fields elsewhere. */
function moved(layout: BitLayout, lows: Readonly<Record<string, number>>): BitLayout {
  for (const name of Object.keys(lows)) fieldOf(layout, name);
  return { ...layout, fields: layout.fields.map((field) => ({ ...field, low: lows[field.name] ?? field.low })) };
}

function without(layout: BitLayout, name: string): BitLayout {
  return { ...layout, fields: layout.fields.filter((field) => field.name !== name) };
}

/** The layout with fields of those names replaced, or added. */
function having(layout: BitLayout, ...fields: readonly BitField[]): BitLayout {
  const names = new Set(fields.map(({ name }) => name));
  return { ...layout, fields: [...layout.fields.filter(({ name }) => !names.has(name)), ...fields] };
}

/** A generation of two parts; the high one begins at the generation's bit `from`. */
function generation(lowFrom: number, low: readonly [number, number], high: readonly [number, number], from: number) {
  const part = (name: string, [first, last]: readonly [number, number], start: number): GenerationPart => {
    const width = last - first + 1;
    const meaning = `bits ${start + width - 1}:${start} of the memslot generation`;
    return { field: { name, low: first, width, meaning }, from: start };
  };
  return [part("GEN_LOW", low, lowFrom), part("GEN_HIGH", high, from)];
}

const WRITABLE_LOW = { HOST_WRITABLE: 10, MMU_WRITABLE: 11 };

const L4_19: SpteLayout = {
  ...SPTE_6_1,
  era: "4.19",
  kernels: "4.19 to 5.0",
  software: moved(
    having(without(SPTE_6_1.software, "MMU_PRESENT"), {
      name: "AD_TYPE",
      low: 62,
      meaning: "special: no accessed and dirty bits, or MMIO",
    }),
    { SAVED_R: 52, SAVED_X: 54 },
  ),
  legacy: moved(SPTE_LEGACY, WRITABLE_LOW),
  ept: moved(SPTE_EPT, WRITABLE_LOW),
  generation: generation(1, [3, 11], [52, 61], 10),
  mmioMark: { bits: bits(62), alone: false },
  marker: undefined,
  guard: "narrow",
  mmioAt52: true,
};

const L5_1: SpteLayout = {
  ...L4_19,
  era: "5.1",
  kernels: "5.1 to 5.3",
  generation: generation(0, [3, 11], [52, 61], 0),
};

const L5_4: SpteLayout = {
  ...L5_1,
  era: "5.4",
  kernels: "5.4 to 5.4.18, 5.5 to 5.5.2",
  software: moved(
    having(L5_1.software, {
      name: "AD_TYPE",
      low: 52,
      width: 2,
      meaning: "tracking of accesses and writes: see SPTE_AD; 3 is MMIO",
    }),
    { SAVED_R: 54, SAVED_X: 56 },
  ),
  generation: generation(0, [3, 11], [54, 61], 2),
  mmioMark: { bits: bits(52, 53), alone: false },
};

const L5_6: SpteLayout = {
  ...L5_4,
  era: "5.6",
  kernels: "5.6 to 5.7.2, 5.4.19 to 5.4.46",
  generation: generation(0, [3, 11], [54, 62], 0),
};

const L5_7_3: SpteLayout = {
  ...L5_6,
  era: "5.7.3",
  kernels: "5.7.3 and later 5.7, 5.6.19 and later 5.6, 5.4.47 to 5.4.84",
  guard: "bug",
  mmioAt52: false,
};

const FULL_18 = generation(0, [3, 11], [54, 62], 9);

const L5_4_85: SpteLayout = { ...L5_7_3, era: "5.4.85", kernels: "5.4.85 and later 5.4", generation: FULL_18 };

const L5_8: SpteLayout = {
  ...L5_7_3,
  era: "5.8",
  kernels: "5.8 to 5.9.15",
  mmioMark: { bits: bits(52, 53), alone: true },
};

const L5_10: SpteLayout = { ...L5_8, era: "5.10", kernels: "5.10 and 5.11, 5.9.16 and later 5.9", generation: FULL_18 };

const L5_12: SpteLayout = {
  ...L5_10,
  era: "5.12",
  kernels: "5.12",
  marker: { word: "removed", value: bits(59) },
};

const MARKER_63 = EMPTY_BIT_63 | SPTE_6_1.marker!.value;

const L6_10: SpteLayout = {
  ...SPTE_6_1,
  era: "6.10",
  kernels: "6.10",
  empty: EMPTY_BIT_63,
  marker: { word: "removed", value: MARKER_63 },
};

const L6_11: SpteLayout = {
  ...L6_10,
  era: "6.11",
  kernels: "6.11 and 6.12",
  software: having(L6_10.software, {
    name: "MMU_PRESENT",
    low: 11,
    meaning: "backed by memory: not an MMIO or frozen entry",
  }),
  marker: { word: "frozen", value: MARKER_63 },
};

const L6_13: SpteLayout = {
  ...L6_11,
  era: "6.13",
  kernels: "6.13 to 6.15",
  ept: having(
    SPTE_EPT,
    { name: "A", low: 8, meaning: "accessed; kept by software where the A/D type is 1" },
    { name: "D", low: 9, meaning: "dirty; kept by software where the A/D type is 1" },
  ),
  softwareAd: true,
};

const L6_16: SpteLayout = { ...L6_13, era: "6.16", kernels: "6.16 to 7.1", tdx: true };

const L7_2: SpteLayout = {
  ...L6_16,
  era: "7.2",
  kernels: "7.2 and later (seen up to 7.3)",
  software: having(moved(L6_16.software, { AD_TYPE: 60, SAVED_R: 52, SAVED_X: 54 }), {
    name: "SAVED_XU",
    low: 62,
    meaning: "user-execute right before access tracking",
  }),
  ept: moved(
    having(
      L6_16.ept,
      { name: "X", low: 2, meaning: "executable; with mode-based execute control, by the supervisor" },
      { name: "XU", low: 10, meaning: "executable by the user, with mode-based execute control" },
    ),
    { HOST_WRITABLE: 53, MMU_WRITABLE: 55 },
  ),
  generation: generation(0, [3, 9], [52, 62], 7),
  marker: { word: "frozen", value: EMPTY_BIT_63 | 0x1a0n },
  userReads: false,
};

/** All eras, oldest first, but for 5.4.85: of the 5.4 series, younger than 5.8, and without what 5.8 changed. */
export const SPTE_ERA_TABLE: readonly SpteEraEntry[] = [
  {
    era: "4.19",
    releases: [["4.19", "5.0.x"]],
    checked: "4.19.13 and 5.0.1; later 4.19 releases have the guard of 5.7.3, from which on was not looked up",
    changes: [
      {
        what: "present: not empty and not MMIO; no bit of its own",
        source: "mmu.c, is_shadow_present_pte",
      },
      {
        what: "bit 62 is special: no A/D bits, or MMIO",
        source: "asm/kvm_host.h, SPTE_SPECIAL_MASK; mmu.c, kvm_mmu_set_mmio_spte_mask",
      },
      {
        what: "host-writable bit 10, MMU-writable bit 11, in both formats",
        source: "mmu.c, PT_FIRST_AVAIL_BITS_SHIFT, SPTE_HOST_WRITEABLE, SPTE_MMU_WRITEABLE",
      },
      {
        what: "access tracking saves R and X in bits 52 and 54",
        source: "mmu.c, shadow_acc_track_saved_bits_shift",
      },
      {
        what: "MMIO generation of 20 bits, bit 0 always 0: bits 9:1 in 11:3, bits 19:10 in 61:52",
        source: "mmu.c, generation_mmio_spte_mask",
      },
      {
        what: "an L1TF guard (5 address bits of MMIO entries) on every processor with fewer than 47 address bits",
        source: "mmu.c, kvm_mmu_reset_all_pte_masks",
      },
      {
        what: "52 address bits: MMIO entries have bit 51, without P",
        source: "x86.c, kvm_set_mmio_spte_mask (mmu.c from 5.3 on)",
      },
    ],
    layout: L4_19,
  },
  {
    era: "5.1",
    releases: [["5.1", "5.3.x"]],
    checked: "5.1.0, 5.2.1, 5.3.0 and 5.3.1; from 5.2 on the guard goes by the L1 data cache's address bits",
    changes: [
      {
        what: "MMIO generation of 19 bits, of which 10 are stored: bits 8:0 in 11:3, bits 9:0 (by a missing shift) in 61:52",
        source: "mmu.c, generation_mmio_spte_mask; commits cae7ed3c2cb0, 34c0f6f2695a",
      },
    ],
    layout: L5_1,
  },
  {
    era: "5.4",
    releases: [
      ["5.4", "5.4.18"],
      ["5.5", "5.5.2"],
    ],
    checked: "5.4.0 and 5.4.18; 5.5 was not had: it is older than the change of 5.6",
    changes: [
      {
        what: "bits 53:52 are the A/D type: 0 A/D bits, 1 none, 2 write protection only, 3 MMIO",
        source: "mmu.c, SPTE_SPECIAL_MASK, SPTE_AD_..._MASK, SPTE_MMIO_MASK",
      },
      {
        what: "access tracking saves R and X in bits 54 and 56",
        source: "mmu.c, PT64_SECOND_AVAIL_BITS_SHIFT",
      },
      {
        what: "the generation's copy in 61:52 loses its bits 1:0 under the MMIO mark",
        source: "mmu.c, generation_mmio_spte_mask, get_mmio_spte_generation",
      },
    ],
    layout: L5_4,
  },
  {
    era: "5.6",
    releases: [
      ["5.4.19", "5.4.46"],
      ["5.6", "5.6.18"],
      ["5.7", "5.7.2"],
    ],
    checked: "5.4.38 and 5.6.4; 5.4.19 from its review list",
    changes: [
      {
        what: "MMIO generation of 18 bits: bits 8:0 in 11:3, bits 8:0 again in 62:54",
        source: "mmu.c, MMIO_SPTE_GEN_HIGH_START; commit 56871d444bc4",
      },
    ],
    layout: L5_6,
  },
  {
    era: "5.7.3",
    releases: [
      ["5.4.47", "5.4.84"],
      ["5.6.19", "5.6.x"],
      ["5.7.3", "5.7.x"],
    ],
    checked: "5.7.14; 5.4.47, 5.6.19 and 5.7.3 from their release announcements",
    changes: [
      {
        what: "the L1TF guard only on processors with the bug",
        source: "mmu/mmu.c, kvm_mmu_reset_all_pte_masks",
      },
      {
        what: "52 address bits: only bits 53:52 mark MMIO",
        source: "mmu/mmu.c, kvm_set_mmio_spte_mask",
      },
    ],
    layout: L5_7_3,
  },
  {
    era: "5.4.85",
    releases: [["5.4.85", "5.4.x"]],
    checked: "5.4.120 and 5.4.195; 5.4.85 from the stable tree's list of commits",
    changes: [
      {
        what: "MMIO generation: bits 17:9 in 62:54",
        source: "mmu.c, MMIO_SPTE_GEN_HIGH_SHIFT; commit 34c0f6f2695a",
      },
    ],
    layout: L5_4_85,
  },
  {
    era: "5.8",
    releases: [["5.8", "5.9.15"]],
    checked: "5.8.1 and 5.9.1",
    changes: [
      {
        what: "bits 53:52 alone say that an entry is MMIO",
        source: "mmu/mmu.c, is_mmio_spte",
      },
    ],
    layout: L5_8,
  },
  {
    era: "5.10",
    releases: [
      ["5.9.16", "5.9.x"],
      ["5.10", "5.11.x"],
    ],
    checked: "5.10, 5.10.7, Debian's 5.10.262 and 5.11.5; 5.9.16 from the stable tree's list of commits",
    changes: [
      {
        what: "MMIO generation: bits 17:9 in 62:54, as in 5.4.85; a TDP MMU, still without a removed entry",
        source: "mmu/spte.h, MMIO_SPTE_GEN_HIGH_SHIFT; commit 34c0f6f2695a",
      },
    ],
    layout: L5_10,
  },
  {
    era: "5.12",
    releases: [["5.12", "5.12.x"]],
    checked: "5.12.9",
    changes: [{ what: "a removed entry of the TDP MMU is bit 59", source: "mmu/spte.h, REMOVED_SPTE" }],
    layout: L5_12,
  },
  {
    era: "5.13",
    releases: [["5.13", "6.9.x"]],
    checked:
      "5.14-rc5, 5.15.85, 5.16.10, 5.17-rc5, 5.18.12, 5.19.0, 6.0.1, Debian's 6.1.192, 6.2.12, 6.3.8, 6.4.6, 6.5.0, 6.6.9, 6.8.0 and 6.9.0; that 5.13 is the first is from the dates of the patches (February 2021)",
    changes: [
      { what: "bit 11 says that an entry is present", source: "mmu/spte.h, SPTE_MMU_PRESENT_MASK" },
      {
        what: "host-writable bit 9, MMU-writable bit 10; in EPT 57 and 58",
        source: "mmu/spte.h, DEFAULT_SPTE_..._WRITEABLE, EPT_SPTE_..._WRITABLE",
      },
      {
        what: "MMIO entries have no software mark: their rights (EPT) or bit 51 tell; none with 52 address bits",
        source: "mmu/spte.h, is_mmio_spte; mmu/spte.c, kvm_mmu_set_mmio_spte_mask",
      },
      { what: "the A/D type has no value 3", source: "mmu/spte.h, SPTE_TDP_AD_MASK" },
      {
        what: "MMIO generation of 19 bits: bits 7:0 in 10:3, bits 18:8 in 62:52",
        source: "mmu/spte.h, MMIO_SPTE_GEN_...",
      },
      { what: "a removed entry is 0x5a0", source: "mmu/spte.h, REMOVED_SPTE" },
      {
        what: "from 5.18 on, writable and MMU-writable bits are checked where they change",
        source: "mmu/spte.h, check_spte_writable_invariants",
      },
    ],
    layout: SPTE_6_1,
  },
  {
    era: "6.10",
    releases: [["6.10", "6.10.x"]],
    checked: "6.10-rc1; absent from 6.9.0",
    changes: [
      { what: "an empty entry is bit 63 (suppress #VE)", source: "mmu/spte.h, SHADOW_NONPRESENT_VALUE" },
      { what: "a removed entry has bit 63 too", source: "mmu/spte.h, REMOVED_SPTE" },
      {
        what: "EPT entries have bit 63, MMIO ones do not",
        source: "mmu/spte.c, kvm_mmu_set_ept_masks",
      },
    ],
    layout: L6_10,
  },
  {
    era: "6.11",
    releases: [["6.11", "6.12.x"]],
    checked: "6.11.11 and Debian's 6.12.117; 6.10-rc1 has the old name",
    changes: [{ what: "removed entries are called frozen", source: "mmu/spte.h, FROZEN_SPTE" }],
    layout: L6_11,
  },
  {
    era: "6.13",
    releases: [["6.13", "6.15.x"]],
    checked: "6.13.2 and 6.14.0; 6.15 was not had",
    changes: [
      {
        what: "EPT tables without A/D bits use bits 8 and 9 as software's accessed and dirty bits; access tracking clears bit 8",
        source: "mmu/spte.c, kvm_mmu_set_ept_masks, make_spte, mark_spte_for_access_track",
      },
      {
        what: "from 6.14 on mirror tables (TDX) hold the same entries; a leaf is frozen while the external one is changed",
        source: "mmu/spte.h, is_mirror_sptep; mmu/tdp_mmu.c, set_external_spte_present",
      },
    ],
    layout: L6_13,
  },
  {
    era: "6.16",
    releases: [["6.16", "7.1.x"]],
    checked: "6.16.1, 6.17.0, 6.18.2, 6.19.0, 7.0.0, 7.1.3 and 7.1.5; absent from 6.14.0",
    changes: [
      {
        what: "a TDX guest's MMIO entries have no rights and no bit 63",
        source: "mmu/spte.c, kvm_mmu_set_mmio_spte_value; vmx/tdx.c",
      },
      {
        what: "the shared bit of a TDX guest's addresses is cut off before an entry is made: no entry has it",
        source: "mmu/mmu_internal.h, kvm_mmu_do_page_fault (kvm_gfn_direct_bits)",
      },
    ],
    layout: L6_16,
  },
  {
    era: "7.2",
    releases: [["7.2"]],
    checked: "Debian's 7.2.13 and 7.3.4; absent from 7.1.5",
    changes: [
      {
        what: "the A/D type is in bits 61:60; in EPT host-writable is bit 53, MMU-writable bit 55",
        source: "mmu/spte.h, SPTE_TDP_AD_SHIFT, EPT_SPTE_..._WRITABLE",
      },
      {
        what: "EPT has a user-execute right in bit 10; reading is a right of its own",
        source: "mmu/spte.c, kvm_mmu_set_ept_masks, make_spte",
      },
      {
        what: "access tracking saves R, X and user-execute in bits 52, 54 and 62",
        source: "mmu/spte.h, SHADOW_ACC_TRACK_SAVED_BITS_...",
      },
      {
        what: "MMIO generation of 18 bits: bits 6:0 in 9:3, bits 17:7 in 62:52",
        source: "mmu/spte.h, MMIO_SPTE_GEN_...",
      },
      { what: "a frozen entry is 0x80000000000001a0", source: "mmu/spte.h, FROZEN_SPTE" },
    ],
    layout: L7_2,
  },
];
