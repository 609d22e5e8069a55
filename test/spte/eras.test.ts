/**
 * Entries of every era of KVM, written by hand from the kernels' own definitions (named at each word), and where the table puts
 * every bit.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BitLayout, maskOf } from "../../src/abi/bits.js";
import { ConfigError } from "../../src/errors.js";
import {
  brokenInvariants,
  type DecodedSpte,
  decodeSpte,
  defaultMasks,
  eptMasks,
  eptReserved,
  isPresentIn,
  legacyMasks,
  SPTE_ERAS,
  type SpteEra,
  type SpteFormat,
  spteEras,
  spteLayoutOf,
  spteLayoutOfKernel,
  withMmioMark,
} from "../../src/spte/index.js";

const NEW_ERAS = SPTE_ERAS.filter((era) => SPTE_ERAS.indexOf(era) >= SPTE_ERAS.indexOf("5.13"));
const OLD_ERAS = SPTE_ERAS.filter((era) => !NEW_ERAS.includes(era));

/** Masks of a host with 46 address bits and no L1TF bug. */
function masksIn(era: SpteEra, format: SpteFormat, options: { accessedDirty?: boolean; tdx?: boolean } = {}) {
  const common = { physBits: 46, layout: spteLayoutOf(era) };
  return format === "ept" ? eptMasks({ ...common, ...options }) : legacyMasks(common);
}

const decode = (era: SpteEra, format: SpteFormat, word: bigint, level = 1): DecodedSpte =>
  decodeSpte(word, { kernel: era, format, masks: masksIn(era, format), level });
const names = ({ fields }: DecodedSpte) => fields.map(({ name }) => name);

describe("where the bits are", () => {
  /** [A/D type, its width, saved R, saved X, host- and MMU-writable, the same in EPT, present], as the kernels define them. */
  type Row = readonly [number, number, number, number, number, number, number, number, number | undefined];
  const OLD: Row = [52, 2, 54, 56, 10, 11, 10, 11, undefined];
  const NEW: Row = [52, 2, 54, 56, 9, 10, 57, 58, 11];
  const POSITIONS: Readonly<Record<SpteEra, Row>> = {
    "4.19": [62, 1, 52, 54, 10, 11, 10, 11, undefined],
    "5.1": [62, 1, 52, 54, 10, 11, 10, 11, undefined],
    "5.4": OLD,
    "5.6": OLD,
    "5.7.3": OLD,
    "5.4.85": OLD,
    "5.8": OLD,
    "5.10": OLD,
    "5.12": OLD,
    "5.13": NEW,
    "6.10": NEW,
    "6.11": NEW,
    "6.13": NEW,
    "6.16": NEW,
    "7.2": [60, 2, 52, 54, 9, 10, 53, 55, 11],
  };

  it.each(SPTE_ERAS)("%s: software's bits", (era) => {
    const { software, legacy, ept } = spteLayoutOf(era);
    const low = (layout: BitLayout, name: string) => layout.fields.find((field) => field.name === name)?.low;
    const width = software.fields.find(({ name }) => name === "AD_TYPE")!.width ?? 1;
    expect([
      low(software, "AD_TYPE"),
      width,
      low(software, "SAVED_R"),
      low(software, "SAVED_X"),
      low(legacy, "HOST_WRITABLE"),
      low(legacy, "MMU_WRITABLE"),
      low(ept, "HOST_WRITABLE"),
      low(ept, "MMU_WRITABLE"),
      low(software, "MMU_PRESENT"),
    ]).toEqual(POSITIONS[era]);
    const masks = [masksIn(era, "npt"), masksIn(era, "ept")].flatMap((one) => [one.hostWritable, one.mmuWritable]);
    expect(masks).toEqual(POSITIONS[era].slice(4, 8).map((at) => 1n << BigInt(at!)));
  });

  it.each(SPTE_ERAS)("%s: the hardware's bits, and where everything else is", (era) => {
    const { software, legacy, ept } = spteLayoutOf(era);
    const bitsOf = ({ fields }: BitLayout) =>
      Object.fromEntries(
        fields.filter(({ name }) => !name.endsWith("WRITABLE")).map(({ name, low, width = 1 }) => [name, [low, width]]),
      );
    expect(bitsOf(legacy)).toEqual({
      P: [0, 1],
      RW: [1, 1],
      US: [2, 1],
      A: [5, 1],
      D: [6, 1],
      MMIO_RSVD: [51, 1],
      NX: [63, 1],
    });
    expect(bitsOf(ept)).toEqual({
      ...{ R: [0, 1], W: [1, 1], X: [2, 1], MEMTYPE: [3, 3], IPAT: [6, 1], A: [8, 1], D: [9, 1], SVE: [63, 1] },
      ...(era === "7.2" && { XU: [10, 1] }),
    });
    expect(bitsOf(software)).toMatchObject({
      PS: [7, 1],
      ADDRESS: [12, 40],
      ...(era === "7.2" && { SAVED_XU: [62, 1] }),
    });
  });

  it.each(SPTE_ERAS)("%s: no two fields share a bit", (era) => {
    const { software, legacy, ept, generation } = spteLayoutOf(era);
    const present = (own: BitLayout) => [...software.fields, ...own.fields.filter(({ name }) => name !== "MMIO_RSVD")];
    for (const fields of [present(legacy), present(ept), generation.map(({ field }) => field)]) {
      let seen = 0n;
      for (const field of fields) {
        expect(seen & maskOf(field), field.name).toBe(0n);
        seen |= maskOf(field);
      }
    }
  });

  it("the marker and the empty entry of every era", () => {
    const marks = SPTE_ERAS.map((era) => {
      const { marker, empty } = spteLayoutOf(era);
      return [era, marker?.word, marker?.value, empty];
    });
    const none = (era: string) => [era, undefined, undefined, 0n];
    const BIT_63 = 0x8000_0000_0000_0000n;
    expect(marks).toEqual([
      ...["4.19", "5.1", "5.4", "5.6", "5.7.3", "5.4.85", "5.8", "5.10"].map(none),
      ["5.12", "removed", 0x0800_0000_0000_0000n, 0n],
      ["5.13", "removed", 0x5a0n, 0n],
      ["6.10", "removed", 0x8000_0000_0000_05a0n, BIT_63],
      ["6.11", "frozen", 0x8000_0000_0000_05a0n, BIT_63],
      ["6.13", "frozen", 0x8000_0000_0000_05a0n, BIT_63],
      ["6.16", "frozen", 0x8000_0000_0000_05a0n, BIT_63],
      ["7.2", "frozen", 0x8000_0000_0000_01a0n, BIT_63],
    ]);
  });
});

describe("entries before the present bit", () => {
  it.each(OLD_ERAS)("%s: a writable leaf of shadow paging", (era) => {
    // P, RW, US, A, D; host-writable bit 10, MMU-writable bit 11.
    const leaf = decode(era, "shadow", 0x29cbc67n);
    expect(leaf).toMatchObject({ kind: "leaf", address: 0x29cb000n, unknown: 0n });
    expect(leaf.rights).toEqual({ read: true, write: true, execute: true, user: true });
    expect(names(leaf)).toEqual(["P", "RW", "US", "A", "D", "HOST_WRITABLE", "MMU_WRITABLE", "ADDRESS"]);
  });

  it.each(OLD_ERAS)("%s: a writable leaf of EPT", (era) => {
    // R, W, X, write-back, IPAT, A, D, and the same two bits.
    const leaf = decode(era, "ept", 0x200f77n);
    expect(leaf).toMatchObject({ kind: "leaf", address: 0x200000n, unknown: 0n });
    const hardware = ["R", "W", "X", "MEMTYPE", "IPAT", "A", "D"];
    expect(names(leaf)).toEqual([...hardware, "HOST_WRITABLE", "MMU_WRITABLE", "ADDRESS"]);
  });

  it.each(OLD_ERAS)("%s: tables, with the level and without", (era) => {
    // make_nonleaf_spte, or link_shadow_page: present, RW, US or R, X, and A.
    for (const [format, word] of [
      ["npt", 0x8ab3027n],
      ["ept", 0x1000107n],
    ] as const) {
      expect(decode(era, format, word, 2)).toMatchObject({ kind: "non-leaf", unknown: 0n });
      const masks = masksIn(era, format);
      expect(decodeSpte(word, { kernel: era, format, masks }).kind).toBe("non-leaf");
    }
  });

  it.each(OLD_ERAS)("%s: what has no rights means nothing", (era) => {
    expect(decode(era, "npt", 0x123000n).kind).toBe("not-present");
    expect(decode(era, "ept", 0x40n).kind).toBe("not-present");
    expect(decode(era, "ept", 0x8000_0000_0000_0000n).kind).toBe("not-present");
    expect(decode(era, "ept", 0n).kind).toBe("none");
  });

  it.each(OLD_ERAS)("%s: the kernel takes all for present that is not empty, MMIO or removed", (era) => {
    const layout = spteLayoutOf(era);
    const masks = masksIn(era, "ept");
    const present = (word: bigint) => isPresentIn(layout, word, masks);
    expect([0n, layout.mmioMark.bits | 6n, 0x40n, 0x200f77n].map(present)).toEqual([false, false, true, true]);
    expect(present(0x0800_0000_0000_0000n)).toBe(era !== "5.12");
  });

  it.each(["4.19", "5.1"] as const)("%s: rights that access tracking took away", (era) => {
    // Special bit 62; R saved in 52, X in 54 (shadow_acc_track_saved_bits_shift = 52); host- and MMU-writable, write-back, IPAT.
    const tracked = decode(era, "ept", 0x4050_0000_0020_0c70n);
    expect(tracked).toMatchObject({ kind: "access-tracked", address: 0x200000n, unknown: 0n });
    expect(tracked.rights).toEqual({ read: true, write: false, execute: true, user: true });
  });

  it.each(OLD_ERAS.filter((era) => era !== "4.19" && era !== "5.1"))("%s: the same, and the types", (era) => {
    // SPTE_AD_DISABLED_MASK is 1 << 52; R saved in 54, X in 56.
    const tracked = decode(era, "ept", 0x0150_0000_0020_0c70n);
    expect(tracked).toMatchObject({ kind: "access-tracked", unknown: 0n });
    expect(tracked.rights).toEqual({ read: true, write: false, execute: true, user: true });
    // SPTE_AD_WRPROT_ONLY_MASK is 2 << 52.
    const protectedOnly = decode(era, "ept", 0x0020_0000_0020_0f77n);
    expect(protectedOnly).toMatchObject({ kind: "leaf", unknown: 0n });
    expect(protectedOnly.fields).toContainEqual(expect.objectContaining({ name: "AD_TYPE", value: 2n }));
  });

  it("a removed entry of 5.12 is bit 59, and nothing else removes one", () => {
    expect(decode("5.12", "ept", 0x0800_0000_0000_0000n).kind).toBe("removed");
    expect(decode("5.10", "ept", 0x0800_0000_0000_0000n).kind).toBe("not-present");
    expect(decode("5.13", "ept", 0x0800_0000_0000_0000n).kind).toBe("not-present");
    expect(decode("5.12", "ept", 0x5a0n).kind).toBe("not-present");
  });
});

describe("entries with the present bit", () => {
  it.each(NEW_ERAS)("%s: a writable leaf of shadow paging", (era) => {
    // Bits 9 and 10 since 5.13, and present: bit 11.
    const leaf = decode(era, "shadow", 0x29cbe67n);
    expect(leaf).toMatchObject({ kind: "leaf", address: 0x29cb000n, unknown: 0n });
    expect(names(leaf).slice(5)).toEqual(["HOST_WRITABLE", "MMU_WRITABLE", "MMU_PRESENT", "ADDRESS"]);
    expect(decode(era, "shadow", 0x29cb467n).kind).toBe("not-present");
  });

  it.each(NEW_ERAS.filter((era) => era !== "7.2"))("%s: EPT", (era) => {
    const sve = era === "5.13" ? 0n : 1n << 63n;
    const leaf = decode(era, "ept", sve | 0x0600_0000_0020_0b77n);
    expect(leaf).toMatchObject({ kind: "leaf", address: 0x200000n, unknown: 0n });
    expect(names(leaf)).toContain("MMU_WRITABLE");
    // A/D type 1, R in 54, X in 56, host- and MMU-writable 57 and 58.
    const tracked = decode(era, "ept", sve | 0x0750_0000_0020_0870n);
    expect(tracked).toMatchObject({ kind: "access-tracked", unknown: 0n });
    expect(tracked.rights).toEqual({ read: true, write: false, execute: true, user: true });
    expect(tracked.rights).not.toHaveProperty("userExecute");
    expect(decode(era, "ept", sve | (1n << 59n) | 0x0600_0000_0020_0b77n).unknown).toBe(1n << 59n);
  });

  it.each(["6.10", "6.11", "6.13", "6.16"] as const)("%s: empty is bit 63, and so is the marker's", (era) => {
    for (const format of ["npt", "ept"] as const) {
      expect(decode(era, format, 0x8000_0000_0000_0000n).kind).toBe("none");
      expect(decode(era, format, 0x8000_0000_0000_05a0n).kind).toBe("removed");
      expect(decode(era, format, 0x5a0n).kind).toBe("not-present");
    }
    expect(defaultMasks("ept", true, spteLayoutOf(era)).present).toBe(1n << 63n);
    expect(masksIn(era, "ept").present).toBe(1n << 63n);
    expect(masksIn(era, "ept").mmio).toBe((1n << 63n) | 7n);
  });

  it("EPT without A/D bits has software's since 6.13", () => {
    const masks = SPTE_ERAS.map((era) => masksIn(era, "ept", { accessedDirty: false }));
    const has = masks.map(({ accessed, dirty }) => `${accessed} ${dirty}`);
    const since = SPTE_ERAS.indexOf("6.13");
    expect(has).toEqual(SPTE_ERAS.map((_, index) => (index >= since ? "256 512" : "0 0")));
    const meaning = (era: SpteEra) =>
      decode(era, "ept", 0x8610_0000_0020_0b77n).fields.find(({ name }) => name === "A");
    expect(meaning("6.13")!.meaning).toContain("kept by software");
    expect(meaning("6.11")!.meaning).toBe("accessed");
  });

  it("7.2: EPT with the user's right to execute", () => {
    // bit 63; MMU-writable 55, host-writable 53; present 11, user-execute 10, D, A, IPAT, write-back, X, W, R.
    const leaf = decode("7.2", "ept", 0x80a0_0000_0020_0f77n);
    expect(leaf).toMatchObject({ kind: "leaf", address: 0x200000n, unknown: 0n });
    expect(leaf.rights).toEqual({ read: true, write: true, execute: true, user: true, userExecute: true });
    expect(decode("7.2", "ept", 0x80a0_0000_0020_0b73n).rights).toMatchObject({ execute: false, userExecute: false });
    // A/D type 1 at 60; saved: R 52, X 54, user-execute 62.
    const tracked = decode("7.2", "ept", 0xd0f0_0000_0020_0870n);
    expect(tracked).toMatchObject({ kind: "access-tracked", unknown: 0n });
    expect(tracked.rights).toEqual({ read: true, write: false, execute: true, user: true, userExecute: true });
    expect(decode("7.2", "ept", 0x90b0_0000_0020_0870n).rights).toMatchObject({ execute: false, userExecute: false });
    // Since a right to execute alone is no table's: R, W, X, user-execute, A.
    expect(decode("7.2", "ept", 0x8000_0000_0100_0d07n, 2)).toMatchObject({ kind: "non-leaf", unknown: 0n });
  });

  it("7.2: the frozen entry has no bit 10", () => {
    expect(decode("7.2", "ept", 0x8000_0000_0000_01a0n).kind).toBe("removed");
    expect(decode("7.2", "ept", 0x8000_0000_0000_05a0n).kind).toBe("not-present");
    expect(decode("6.16", "ept", 0x8000_0000_0000_01a0n).kind).toBe("not-present");
  });

  it("7.2: the masks", () => {
    const masks = eptMasks({ physBits: 46, executeOnly: false, layout: spteLayoutOf("7.2") });
    expect(masks).toMatchObject({ user: 0n, x: 4n, xUser: 0x400n, present: 1n << 63n, accTrack: 0x407n });
    expect(eptMasks({ physBits: 46, executeOnly: false, layout: spteLayoutOf("6.16") })).toMatchObject({
      user: 1n,
      present: (1n << 63n) | 1n,
      accTrack: 7n,
    });
  });
});

/** How a kernel writes the generation into an MMIO entry (generation_mmio_spte_mask), shift by shift. */
const GENERATION: Readonly<Record<SpteEra, readonly [bits: number, (gen: bigint) => bigint]>> = {
  "4.19": [20, (gen) => ((gen & 0x3fen) << 2n) | ((gen >> 10n) << 52n)],
  "5.1": [10, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 52n) & 0x3ff0_0000_0000_0000n)],
  "5.4": [10, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 52n) & 0x3ff0_0000_0000_0000n)],
  "5.6": [9, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 54n) & 0x7fc0_0000_0000_0000n)],
  "5.7.3": [9, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 54n) & 0x7fc0_0000_0000_0000n)],
  "5.4.85": [18, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 45n) & 0x7fc0_0000_0000_0000n)],
  "5.8": [9, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 54n) & 0x7fc0_0000_0000_0000n)],
  "5.10": [18, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 45n) & 0x7fc0_0000_0000_0000n)],
  "5.12": [18, (gen) => ((gen << 3n) & 0xff8n) | ((gen << 45n) & 0x7fc0_0000_0000_0000n)],
  "5.13": [19, (gen) => ((gen << 3n) & 0x7f8n) | ((gen << 44n) & 0x7ff0_0000_0000_0000n)],
  "6.10": [19, (gen) => ((gen << 3n) & 0x7f8n) | ((gen << 44n) & 0x7ff0_0000_0000_0000n)],
  "6.11": [19, (gen) => ((gen << 3n) & 0x7f8n) | ((gen << 44n) & 0x7ff0_0000_0000_0000n)],
  "6.13": [19, (gen) => ((gen << 3n) & 0x7f8n) | ((gen << 44n) & 0x7ff0_0000_0000_0000n)],
  "6.16": [19, (gen) => ((gen << 3n) & 0x7f8n) | ((gen << 44n) & 0x7ff0_0000_0000_0000n)],
  "7.2": [18, (gen) => ((gen << 3n) & 0x3f8n) | ((gen << 45n) & 0x7ff0_0000_0000_0000n)],
};

/** Software's mark of MMIO entries: SPTE_SPECIAL_MASK, SPTE_MMIO_MASK. */
const MARK = (era: SpteEra): bigint =>
  era === "4.19" || era === "5.1" ? 1n << 62n : OLD_ERAS.includes(era) ? 3n << 52n : 0n;
/** Kernels that guard every processor with fewer than 47 address bits: here bits 45:41. */
const GUARD = (era: SpteEra): bigint => (["4.19", "5.1", "5.4", "5.6"].includes(era) ? 0x3e00_0000_0000n : 0n);

describe("MMIO entries", () => {
  it("as words", () => {
    const mmio = (era: SpteEra, word: bigint, format: SpteFormat = "ept") => {
      const { kind, unknown, mmio } = decode(era, format, word);
      return { kind, unknown, ...mmio };
    };
    const read = (gfn: bigint, generation: number, access = 0) => ({
      kind: "mmio",
      unknown: 0n,
      gfn,
      access,
      generation,
    });
    // Bit 62, generation 0x80006 (bit 19 in 61; bits 2:1 in 4:3), guard 45:41, W and X without R.
    expect(mmio("4.19", 0x6000_3e00_8000_001en)).toEqual(read(0x80000n, 0x80006));
    // Bits 62, 51 and 0; writable and the user's.
    expect(mmio("4.19", 0x4008_3e00_fee0_0007n, "shadow")).toEqual(read(0xfee00n, 0, 6));
    // Generation 0x2a5: 0x0a5 in 11:3, 0x2a5 in 61:52.
    expect(mmio("5.1", 0x6a50_3e00_0000_052en)).toEqual(read(0n, 0x2a5));
    // The same under 3 in 53:52.
    expect(mmio("5.4", 0x2a70_3e00_0000_052en)).toEqual(read(0n, 0x2a5));
    // Generation 0x1a5 twice: in 11:3 and 62:54.
    expect(mmio("5.6", 0x6970_3e00_0000_0d2en)).toEqual(read(0n, 0x1a5));
    // 0x35 above 0x1a5: in 62:54 and 11:3; no guard.
    for (const era of ["5.4.85", "5.10", "5.12"] as const) {
      expect(mmio(era, 0x0d70_0000_0000_0d2en)).toEqual(read(0n, 0x6ba5));
    }
    expect(mmio("5.8", 0x0d70_0000_0000_0d2en)).toEqual(read(0n, 0x1b5));
    // 0x435 in 62:52; 0x25 in 10:3 (5.13) or 9:3 (7.2).
    expect(mmio("6.16", 0x4350_0000_8000_012en)).toEqual(read(0x80000n, 0x43525));
    expect(mmio("7.2", 0x4350_0000_8000_012en)).toEqual(read(0x80000n, 0x21aa5));
    // Bit 10 is the user's right to execute: not the generation's.
    expect(mmio("7.2", 0x4350_0000_8000_052en)).toEqual({ ...read(0x80000n, 0x21aa5), unknown: 0x400n });
    expect(mmio("6.16", 0x4350_0000_8000_052en)).toEqual(read(0x80000n, 0x435a5));
  });

  it.each(SPTE_ERAS)("%s: generation, frame and rights come back", (era) => {
    const [bits, place] = GENERATION[era];
    const frame = fc.bigInt({ min: 0n, max: (1n << 34n) - 1n });
    const generation = fc.nat({ max: 2 ** bits - 1 }).map((gen) => (era === "4.19" ? gen & ~1 : gen));
    const format = fc.constantFrom("shadow" as const, "ept" as const);
    fc.assert(
      fc.property(format, frame, generation, fc.constantFrom(0n, 2n, 4n, 6n), (format, gfn, gen, access) => {
        const rights = format === "ept" ? 6n : (1n << 51n) | 1n | access;
        const gpa = gfn << 12n;
        const guard = GUARD(era);
        const word = MARK(era) | place(BigInt(gen)) | rights | gpa | guard | ((gpa & guard) << 5n);
        const decoded = decode(era, format, word);
        const kept = format === "ept" ? 0 : Number(access);
        expect(decoded).toMatchObject({ kind: "mmio", mmio: { gfn, access: kept, generation: gen }, unknown: 0n });
        expect(brokenInvariants(word, { masks: masksIn(era, format), level: 1, layout: spteLayoutOf(era) })).toEqual(
          [],
        );
      }),
    );
  });

  it("are told by software's bits and the rights up to 5.7, by the bits alone up to 5.12", () => {
    const MARK_ALONE = 0x0030_0000_1234_5000n;
    const kinds = OLD_ERAS.slice(2).map((era) => [era, decode(era, "ept", MARK_ALONE).kind]);
    expect(kinds).toEqual([
      ["5.4", "not-present"],
      ["5.6", "not-present"],
      ["5.7.3", "not-present"],
      ["5.4.85", "not-present"],
      ["5.8", "mmio"],
      ["5.10", "mmio"],
      ["5.12", "mmio"],
    ]);
    expect(decode("5.13", "ept", MARK_ALONE | 6n).kind).toBe("mmio");
    expect(decode("5.13", "ept", MARK_ALONE).kind).toBe("not-present");
  });

  it("of a host with 52 address bits", () => {
    const marks = SPTE_ERAS.map((era) => {
      const { mmio, mmioValue } = legacyMasks({ physBits: 52, layout: spteLayoutOf(era) });
      return [era, mmio, mmioValue];
    });
    const BIT_51 = 1n << 51n;
    expect(marks).toEqual([
      ...["4.19", "5.1"].map((era) => [era, BIT_51 | (1n << 62n), BIT_51 | (1n << 62n)]),
      ...["5.4", "5.6"].map((era) => [era, BIT_51 | (3n << 52n), BIT_51 | (3n << 52n)]),
      ...["5.7.3", "5.4.85", "5.8", "5.10", "5.12"].map((era) => [era, 3n << 52n, 3n << 52n]),
      ...NEW_ERAS.map((era) => [era, 0n, 0n]),
    ]);
  });

  it.each(SPTE_ERAS)("%s: the L1TF guard", (era) => {
    const layout = spteLayoutOf(era);
    expect(eptMasks({ physBits: 46, layout }).nonpresentOrRsvd).toBe(GUARD(era));
    expect(eptMasks({ physBits: 47, layout }).nonpresentOrRsvd).toBe(0n);
    expect(legacyMasks({ physBits: 39, l1tfCacheBits: 44, layout }).nonpresentOrRsvd).toBe(0xf80_0000_0000n);
  });

  it("may have another mark, with the era's own", () => {
    // svm_adjust_mmio_mask: the reserved bits from the encryption bit on, here 51, and P.
    const own = 0x8_0000_0000_0001n;
    const marked = (era: SpteEra, mask: bigint) => withMmioMark(masksIn(era, "npt"), mask, mask, spteLayoutOf(era));
    expect(marked("5.8", own)).toMatchObject({ mmio: 3n << 52n, mmioValue: 3n << 52n, mmioStored: own });
    expect(marked("5.6", own)).toMatchObject({ mmio: own | (3n << 52n), mmioValue: own | (3n << 52n) });
    expect(marked("6.16", own)).toMatchObject({ mmio: own, mmioValue: own });
    expect(() => marked("5.8", 1n << 62n)).toThrow(ConfigError);
    const executable = (era: SpteEra) => () => withMmioMark(masksIn(era, "ept"), 0x400n, 0x400n, spteLayoutOf(era));
    expect(executable("7.2")).not.toThrow();
    expect(executable("6.16")).toThrow("expected bits 63, 51:12 and 2:0 only");
    expect(() => withMmioMark(masksIn("7.2", "ept"), 1n << 63n, 1n << 63n, spteLayoutOf("7.2"))).toThrow("frozen");
  });

  it("of a TDX guest have no rights and suppress no #VE", () => {
    for (const era of ["6.16", "7.2"] as const) {
      const masks = masksIn(era, "ept", { tdx: true });
      const mmio = (word: bigint) => decodeSpte(word, { kernel: era, format: "ept", masks, level: 1 });
      // Generation 5 in 5:3.
      expect(mmio(0x8000_0028n)).toMatchObject({ kind: "mmio", mmio: { gfn: 0x80000n, generation: 5 }, unknown: 0n });
      expect(mmio(0n)).toMatchObject({ kind: "mmio", mmio: { gfn: 0n, generation: 0 } });
      expect(mmio(0x8000_0000_0000_0000n).kind).toBe("none");
      expect(mmio(0x8000_0000_8000_0028n).kind).toBe("not-present");
      expect(decode(era, "ept", 0x8000_0028n).kind).toBe("not-present");
    }
    expect(() => masksIn("6.13", "ept", { tdx: true })).toThrow(ConfigError);
  });
});

describe("invariants", () => {
  const check = (era: SpteEra, word: bigint) =>
    brokenInvariants(word, { masks: masksIn(era, "ept"), level: 1, layout: spteLayoutOf(era) });

  it("know where an era has its bits", () => {
    expect(check("5.10", 0x200b77n)).toEqual(["MMU-writable but not host-writable"]);
    expect(check("5.10", 0x200577n)).toEqual(["writable but not MMU-writable"]);
    expect(check("7.2", 0x8080_0000_0020_0b77n)).toEqual(["MMU-writable but not host-writable"]);
    expect(check("4.19", 0x4010_0000_0020_0c77n)).toEqual(["saved rights in an entry that is not access-tracked"]);
    expect(check("7.2", 0xb0a0_0000_0020_0877n)).toEqual(["A/D type 3 is not defined"]);
    expect(check("5.4", 0x0020_0000_0020_0f77n)).toEqual([]);
  });

  it("7.2: a page that only the user executes is executable to the memory type's check", () => {
    const masks = masksIn("7.2", "ept");
    const layout = spteLayoutOf("7.2");
    const reserved = eptReserved(masks, { executeOnly: false, maxPageLevel: 2 });
    const word = 0x8000_0000_0020_0c70n;
    expect(brokenInvariants(word, { masks, level: 1, layout, reserved })).toHaveLength(1);
    expect(brokenInvariants(word | 1n, { masks, level: 1, layout, reserved })).toEqual([]);
  });
});

describe("the layout of a release", () => {
  const eraOf = (name: string) => spteLayoutOfKernel(name).era;

  it.each(SPTE_ERAS)("%s is the name of its era", (era) => {
    expect(eraOf(era)).toBe(era);
    expect(spteLayoutOf(era).era).toBe(era);
  });

  it.each([
    ["4.19.300", "4.19"],
    ["4.20", "4.19"],
    ["5.0", "4.19"],
    ["5.0.21", "4.19"],
    ["5.2", "5.1"],
    ["5.3.18", "5.1"],
    ["5.4.18", "5.4"],
    ["5.4.19", "5.6"],
    ["5.4.46", "5.6"],
    ["5.4.47", "5.7.3"],
    ["5.4.84", "5.7.3"],
    ["5.4.300", "5.4.85"],
    ["5.5.2", "5.4"],
    ["5.6.18", "5.6"],
    ["5.6.19", "5.7.3"],
    ["5.7", "5.6"],
    ["5.7.19", "5.7.3"],
    ["5.9.15", "5.8"],
    ["5.9.16", "5.10"],
    ["5.10.262", "5.10"],
    ["5.11", "5.10"],
    ["5.12.19", "5.12"],
    ["5.15.85", "5.13"],
    ["6.1", "5.13"],
    ["6.9.12", "5.13"],
    ["6.10.14", "6.10"],
    ["6.12", "6.11"],
    ["6.14", "6.13"],
    ["6.15", "6.13"],
    ["6.18.2", "6.16"],
    ["7.0", "6.16"],
    ["7.1.5", "6.16"],
    ["7.3.4", "7.2"],
    ["8.0", "7.2"],
    ["mainline", "7.2"],
  ])("%s: %s", (name, era) => {
    expect(eraOf(name)).toBe(era);
  });

  it.each(["", "project", "5", "4.18", "3.10.0", "5.5.3", "5.5.19", "6.1-rc1", "v6.1", "6.1.2.3"])(
    "refuses %j",
    (name) => {
      expect(() => spteLayoutOfKernel(name)).toThrow(ConfigError);
      expect(() => decodeSpte(0n, { kernel: name, format: "ept" })).toThrow(ConfigError);
    },
  );

  it("refuses an era that there is not", () => {
    expect(() => spteLayoutOf("6.2" as SpteEra)).toThrow(ConfigError);
  });

  it("no release has two layouts, and every one from 4.19 has one, but for 5.5.3 and later", () => {
    for (const [major, last] of [
      [4, 20],
      [5, 19],
      [6, 19],
      [7, 9],
    ] as const) {
      for (let minor = major === 4 ? 19 : 0; minor <= last; minor++) {
        for (const sublevel of [0, 1, 2, 3, 15, 16, 18, 19, 46, 47, 84, 85, 300]) {
          const unknown = major === 5 && minor === 5 && sublevel > 2;
          const name = `${major}.${minor}.${sublevel}`;
          if (unknown) expect(() => spteLayoutOfKernel(name)).toThrow(ConfigError);
          else expect(SPTE_ERAS).toContain(eraOf(name));
        }
      }
    }
    const named = spteEras().flatMap(({ era, releases }) => releases.map(([first]) => [first, era]));
    for (const [first, era] of named) expect(eraOf(first!)).toBe(era);
  });
});

describe("docs/sptes.md", () => {
  const text = readFileSync(new URL("../../docs/sptes.md", import.meta.url), "utf8");

  it("has every era, its kernels, where it was read, and all that changed", () => {
    for (const { era, layout, checked, changes } of spteEras()) {
      expect(text).toContain(`| ${era} | ${layout.kernels} | ${checked} |`);
      for (const { what, source } of changes) expect(text).toContain(`| ${era} | ${what} | ${source} |`);
    }
  });
});
