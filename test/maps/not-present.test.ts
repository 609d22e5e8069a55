/** Entries that are not present, as Linux and Windows write them. */
import { describe, expect, it } from "vitest";
import { bitOf, fieldOf, maskOf, placed } from "../../src/abi/bits.js";
import { LINUX_SWAP, LINUX_SWAP_ERAS, LINUX_SWAP32, WINDOWS_SOFTWARE } from "../../src/abi/not-present.js";
import type { Release } from "../../src/abi/release.js";
import { decodeNotPresent, type NotPresentOptions, notPresentRanges, notPresentText } from "../../src/maps/index.js";
import { table32, table64 } from "../dump/builders.js";

const linux = (entry: bigint, options: Partial<NotPresentOptions> = {}) =>
  decodeNotPresent(entry, { system: "linux", ...options });
const windows = (entry: bigint, options: Partial<NotPresentOptions> = {}) =>
  decodeNotPresent(entry, { system: "windows", ...options });

/** __swp_entry and the flags of pte_swp_mk*: the offset is inverted. */
const swap = (type: bigint, offset: bigint, flags = 0n) =>
  (type << 59n) | (((~offset & ((1n << 50n) - 1n)) << 9n) & ~(0x1fn << 59n)) | flags;
/** A page without access: pfn_pte inverts the frame, and bit 8 is set instead of bit 0. */
const protNone = (pa: bigint, flags = 0n) => (~pa & 0x000f_ffff_ffff_f000n) | 0x100n | flags;

describe("Linux", () => {
  it.each<[string, bigint, Partial<NotPresentOptions>, object | undefined]>([
    ["nothing", 0n, {}, undefined],
    ["what an erratum sets", 0x60n, {}, undefined],
    [
      "a page without access",
      protNone(0x1_2345_6000n, 0x66n),
      {},
      { kind: "no access", pa: 0x1_2345_6000n, flags: [] },
    ],
    ["bit 7 of a small page is PAT", protNone(0x1000n, 0x80n), {}, { kind: "no access", pa: 0x1000n, flags: [] }],
    [
      "a large page without access",
      protNone(0x1020_0000n, 0x80n),
      { pageSize: 1n << 21n },
      { kind: "no access", pa: 0x1020_0000n, flags: ["large"] },
    ],
    [
      "a large page that is being changed",
      (~0x1020_0000n & 0x000f_ffff_ffff_f000n) | 0x80n,
      { pageSize: 1n << 21n },
      { kind: "large page being changed", pa: 0x1020_0000n, flags: [] },
    ],
    ["a page of a swap file", swap(2n, 0x12345n), {}, { kind: "swap", file: 2, offset: 0x12345n, flags: [] }],
    [
      "its flags",
      swap(0n, 1n, 0xen),
      {},
      { kind: "swap", file: 0, offset: 1n, flags: ["soft-dirty", "userfaultfd", "exclusive"] },
    ],
    [
      "a page that moves",
      swap(26n, 0x1f0f0n),
      { release: [6, 1, 0] },
      { kind: "migration write", pa: 0x1f0f_0000n, flags: [] },
    ],
    [
      "what the page was before it moves",
      swap(24n, 0x1f0f0n | (3n << 34n)),
      { release: [6, 1, 0] },
      { kind: "migration read", pa: 0x1f0f_0000n, flags: ["accessed", "dirty"] },
    ],
    [
      "the width of its number",
      swap(24n, (1n << 34n) | 5n),
      { release: [6, 1, 0], frameBits: 40 },
      { kind: "migration read", pa: (1n << 46n) | 0x5000n, flags: [] },
    ],
    ["a page that is broken", swap(23n, 7n), { release: [6, 1, 0] }, { kind: "poisoned", pa: 0x7000n, flags: [] }],
    ["a page of a device", swap(28n, 7n), { release: [6, 1, 0] }, { kind: "device read", pa: 0x7000n, flags: [] }],
    ["a marker", swap(31n, 1n), { release: [6, 1, 0] }, { kind: "marker", offset: 1n, flags: [] }],
    [
      "an entry of 4 bytes",
      (3n << 1n) | (0x1234n << 9n),
      { narrow: true },
      { kind: "swap", file: 3, offset: 0x1234n, flags: [] },
    ],
    ["nothing inverted in one", 0x1234_5166n, { narrow: true }, { kind: "no access", pa: 0x1234_5000n, flags: [] }],
    [
      "a large page in one",
      0x1240_01e6n,
      { narrow: true, pageSize: 1n << 22n },
      { kind: "no access", pa: 0x1240_0000n, flags: ["large"] },
    ],
  ])("%s", (_, entry, options, expected) => {
    expect(linux(entry, options)).toEqual(expected);
  });

  it.each<[Release | undefined, Record<number, string>]>([
    [
      [4, 19, 0],
      {
        31: "device read",
        30: "device write",
        29: "migration write",
        28: "migration read",
        27: "poisoned",
        26: "swap",
      },
    ],
    [[4, 14, 0], { 31: "device read", 26: "swap" }],
    [[5, 13, 19], { 27: "poisoned" }],
    [
      [5, 15, 0],
      { 31: "device exclusive read", 28: "device write", 27: "migration write", 25: "poisoned", 24: "swap" },
    ],
    [
      [6, 1, 192],
      { 31: "marker", 30: "device exclusive read", 25: "migration exclusive read", 23: "poisoned", 22: "swap" },
    ],
    [[6, 15, 0], { 30: "device exclusive", 29: "device read", 27: "migration write", 24: "poisoned", 23: "swap" }],
    [undefined, { 30: "device exclusive" }],
  ])("kinds of Linux %j", (release, kinds) => {
    for (const [type, kind] of Object.entries(kinds)) {
      expect(linux(swap(BigInt(type), 1n), { release })?.kind, type).toBe(kind);
    }
  });

  it("has fields that share no bit, and as many types as there are", () => {
    for (const layout of [LINUX_SWAP, LINUX_SWAP32, WINDOWS_SOFTWARE]) {
      let seen = 0n;
      for (const field of layout.fields) {
        expect(seen & maskOf(field)).toBe(0n);
        seen |= maskOf(field);
      }
    }
    for (const { types } of LINUX_SWAP_ERAS) expect(new Set(types).size).toBe(types.length);
    expect(fieldOf(LINUX_SWAP, "OFFSET").low + fieldOf(LINUX_SWAP, "OFFSET").width!).toBe(
      fieldOf(LINUX_SWAP, "TYPE").low,
    );
  });

  it("refuses an entry that is present", () => {
    expect(() => linux(1n)).toThrow(RangeError);
  });
});

describe("Windows", () => {
  const software = (fields: Record<string, bigint>) =>
    Object.entries(fields).reduce((entry, [name, value]) => entry | placed(WINDOWS_SOFTWARE, name, value), 0n);
  const SWIZZLE = bitOf(WINDOWS_SOFTWARE, "SWIZZLE");

  it.each<[string, bigint, object | undefined]>([
    ["nothing", 0n, undefined],
    [
      "a page that is zero when it is used",
      software({ PROTECTION: 4n }),
      { kind: "demand zero", protection: 4, flags: [] },
    ],
    [
      "a page of a page file",
      software({ PROTECTION: 4n, FILE: 2n, OFFSET: 0x1234n, SWIZZLE: 1n }),
      { kind: "page file", file: 2, offset: 0x1234n, protection: 4, flags: [] },
    ],
    [
      "a page in transition",
      software({ PROTECTION: 6n, TRANSITION: 1n, SWIZZLE: 1n }) | 0x1_2345_6000n,
      { kind: "transition", pa: 0x1_2345_6000n, protection: 6, flags: [] },
    ],
    [
      "one with the system's mask",
      software({ PROTECTION: 6n, TRANSITION: 1n }) | 0x2000_1234_5000n,
      { kind: "transition", pa: 0x2000_1234_5000n, protection: 6, flags: ["mask unknown"] },
    ],
    [
      "a prototype",
      software({ PROTECTION: 1n, PROTOTYPE: 1n }) | (0xb00c_1234_5678n << 16n),
      { kind: "prototype", prototype: 0xffff_b00c_1234_5678n, protection: 1, flags: [] },
    ],
    [
      "a prototype of a descriptor of addresses",
      software({ PROTECTION: 1n, PROTOTYPE: 1n }) | (0xffff_ffff_0000n << 16n),
      { kind: "prototype", protection: 1, flags: ["VAD"] },
    ],
    [
      "a prototype, whatever bit 11 is",
      software({ PROTOTYPE: 1n, TRANSITION: 1n }) | (0x1000n << 16n),
      { kind: "prototype", prototype: 0x1000n, protection: 0, flags: [] },
    ],
  ])("%s", (_, entry, expected) => {
    expect(windows(entry)).toEqual(expected);
  });

  it("cuts a number to the width that is given, and no more than the layout has", () => {
    const entry = software({ TRANSITION: 1n, SWIZZLE: 1n }) | 0xffff_2000_1234_5000n;
    expect(windows(entry)?.pa).toBe(0x2000_1234_5000n);
    expect(windows(entry, { frameBits: 20 })?.pa).toBe(0x1234_5000n);
    expect(SWIZZLE).toBe(0x10n);
  });
});

it.each<[bigint, NotPresentOptions, string]>([
  [swap(2n, 0x12n, 2n), { system: "linux" }, "swap file 2, page 0x12, soft-dirty"],
  [protNone(0x5000n), { system: "linux" }, "no access 0x5000"],
  [swap(31n, 2n), { system: "linux" }, "marker, 0x2"],
  [0x1_0000_0080n, { system: "windows" }, "page file 0, page 0x1, protection 4, mask unknown"],
  [0x5_0000_0400n << 16n, { system: "windows" }, "page file 0, page 0x50000, protection 0, mask unknown"],
  [(0x1000n << 16n) | 0x420n, { system: "windows" }, "prototype, at 0x1000, protection 1"],
])("0x%s in words", (entry, options, text) => {
  expect(notPresentText(decodeNotPresent(entry, options)!)).toBe(text);
});

describe("ranges", () => {
  const source = (pages: Record<number, Uint8Array>) => ({
    readPage(gfn: bigint, into: Uint8Array) {
      const page = pages[Number(gfn)];
      if (page !== undefined) into.set(page);
      return page !== undefined;
    },
  });
  const LONG = { cr0: 0x8001_0001n, cr3: 0x1018n, cr4: 0x20n, efer: 0xd00n };
  const ranges = (pages: Record<number, Uint8Array>, registers: typeof LONG, options: NotPresentOptions) =>
    [...notPresentRanges(source(pages), registers, options)].map(({ va, size, entries, pageSize, decoded }) => [
      va,
      size,
      entries,
      pageSize,
      notPresentText(decoded),
    ]);

  it("are those of all levels, by address, with what goes on page by page as one", () => {
    const pages = {
      1: table64({ 0: 0x2007n, 511: 0x2007n }),
      2: table64({ 0: 0x3007n, 1: 0x9007n }),
      3: table64({ 0: 0x4007n, 1: protNone(0x40_0000n, 0x80n), 2: protNone(0x60_0000n, 0x80n), 3: 0x80_00e7n }),
      4: table64({
        0: swap(0n, 5n),
        1: swap(0n, 6n),
        2: swap(0n, 8n),
        3: swap(1n, 9n),
        4: swap(1n, 10n, 2n),
        5: protNone(0x7000n),
        6: protNone(0x8000n),
        7: 0x8007n,
        8: 0x40n,
        9: swap(31n, 1n),
        10: swap(31n, 1n),
        11: swap(31n, 2n),
      }),
    };
    const user = [
      [0n, 0x2000n, 2, 0x1000n, "swap file 0, page 0x5"],
      [0x2000n, 0x1000n, 1, 0x1000n, "swap file 0, page 0x8"],
      [0x3000n, 0x1000n, 1, 0x1000n, "swap file 1, page 0x9"],
      [0x4000n, 0x1000n, 1, 0x1000n, "swap file 1, page 0xa, soft-dirty"],
      [0x5000n, 0x2000n, 2, 0x1000n, "no access 0x7000"],
      [0x9000n, 0x2000n, 2, 0x1000n, "marker, 0x1"],
      [0xb000n, 0x1000n, 1, 0x1000n, "marker, 0x2"],
      [0x20_0000n, 0x40_0000n, 2, 0x20_0000n, "no access 0x400000, large"],
    ] as const;
    const kernel = user.map(([va, ...rest]) => [0xffff_ff80_0000_0000n + va, ...rest]);
    expect(ranges(pages, LONG, { system: "linux" })).toEqual([...user, ...kernel]);
  });

  it("are those of PAE, whose root is part of a page, and of 32-bit paging", () => {
    const root = table64({ 3: 0x2001n, 4: swap(0n, 1n) });
    const pae = { 1: root, 2: table64({ 5: swap(3n, 4n) }) };
    expect(ranges(pae, { ...LONG, cr3: 0x1000n, efer: 0n }, { system: "linux" })).toEqual([
      [0xc0a0_0000n, 0x20_0000n, 1, 0x20_0000n, "swap file 3, page 0x4"],
    ]);
    const narrow = { 1: table32({ 1: 0x2007, 2: 0x40_0087 }), 2: table32({ 3: 0x0a02 }) };
    expect(ranges(narrow, { ...LONG, cr3: 0x1000n, cr4: 0x10n, efer: 0n }, { system: "linux" })).toEqual([
      [0x40_3000n, 0x1000n, 1, 0x1000n, "swap file 1, page 0x5"],
    ]);
  });

  it("are none with paging off, and know the bit that says that a page is encrypted", () => {
    const C = 1n << 47n;
    const pages = { 1: table64({ 0: 0x2007n | C }), 2: table64({ 0: swap(0n, 1n) }) };
    expect(ranges(pages, { ...LONG, cr0: 1n }, { system: "linux" })).toEqual([]);
    expect(ranges(pages, { ...LONG, encryptionMask: C } as typeof LONG, { system: "linux" })).toHaveLength(1);
    expect(ranges(pages, LONG, { system: "linux" })).toEqual([]);
  });

  it("of prototypes go on by 8 bytes", () => {
    const entry = (at: bigint) => (at << 16n) | 0x420n;
    const pages = {
      1: table64({ 0: 0x2007n }),
      2: table64({ 0: 0x3007n }),
      3: table64({ 0: 0x4007n }),
      4: table64({ 0: entry(0x1000n), 1: entry(0x1008n), 2: entry(0x1018n) }),
    };
    expect(ranges(pages, LONG, { system: "windows" })).toEqual([
      [0n, 0x2000n, 2, 0x1000n, "prototype, at 0x1000, protection 1"],
      [0x2000n, 0x1000n, 1, 0x1000n, "prototype, at 0x1018, protection 1"],
    ]);
  });
});
