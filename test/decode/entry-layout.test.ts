/** Layouts of entries against the manuals' tables, which stand here as they are printed, from bit 63 down. */
import { describe, expect, it } from "vitest";
import {
  bitsUsed,
  type EntryFeatures,
  type EntryFormat,
  type EntryKind,
  entryLayout,
  hasPages,
  levelsOf,
} from "../../src/abi/entry-format.js";

/**
 * Fields from the highest bit down: name and width, `-` ignored, `0` must be 0, `A` the address up to MAXPHYADDR; `M` is
 * the number of bits from MAXPHYADDR to bit 51.
 */
const TABLES: readonly (readonly [string, EntryFormat, number, EntryKind, string])[] = [
  // SDM vol. 3, "32-Bit Paging", figure "Formats of CR3 and Paging-Structure Entries with 32-Bit Paging".
  ["PDE: 4MB page", "32bit", 2, "page", "ADDRESS:10 0:1 ADDRESS_HIGH:8 PAT -:3 G PS D A PCD PWT US RW P"],
  ["PDE: page table", "32bit", 2, "table", "ADDRESS:20 -:4 PS - A PCD PWT US RW P"],
  ["PDE: not present", "32bit", 2, "not present", "-:31 P"],
  ["PTE: 4KB page", "32bit", 1, "page", "ADDRESS:20 -:3 G PAT D A PCD PWT US RW P"],
  ["PTE: not present", "32bit", 1, "not present", "-:31 P"],
  // "PAE Paging".
  ["PAE PDPTE: present", "pae", 3, "table", "0:12 0:M A -:3 0:4 PCD PWT 0:2 P"],
  ["PAE PDPTE: not present", "pae", 3, "not present", "-:63 P"],
  ["PAE PDE: 2MB page", "pae", 2, "page", "XD 0:11 0:M A:21 0:8 PAT -:3 G PS D A PCD PWT US RW P"],
  ["PAE PDE: page table", "pae", 2, "table", "XD 0:11 0:M A -:4 PS - A PCD PWT US RW P"],
  ["PAE PTE: 4KB page", "pae", 1, "page", "XD 0:11 0:M A -:3 G PAT D A PCD PWT US RW P"],
  // "4-Level Paging and 5-Level Paging".
  ["PML5E", "5level", 5, "table", "XD -:11 0:M A -:4 0 - A PCD PWT US RW P"],
  ["PML4E", "5level", 4, "table", "XD -:11 0:M A -:4 0 - A PCD PWT US RW P"],
  ["PML4E", "4level", 4, "table", "XD -:11 0:M A -:4 0 - A PCD PWT US RW P"],
  ["PML4E: not present", "4level", 4, "not present", "-:63 P"],
  ["PDPTE: 1GB page", "4level", 3, "page", "XD PKEY:4 -:7 0:M A:30 0:17 PAT -:3 G PS D A PCD PWT US RW P"],
  ["PDPTE: page directory", "4level", 3, "table", "XD -:11 0:M A -:4 PS - A PCD PWT US RW P"],
  ["PDE: 2MB page", "4level", 2, "page", "XD PKEY:4 -:7 0:M A:21 0:8 PAT -:3 G PS D A PCD PWT US RW P"],
  ["PDE: page table", "5level", 2, "table", "XD -:11 0:M A -:4 PS - A PCD PWT US RW P"],
  ["PTE: 4KB page", "5level", 1, "page", "XD PKEY:4 -:7 0:M A -:3 G PAT D A PCD PWT US RW P"],
  // "The Extended Page Table Mechanism (EPT)".
  ["EPT PML5E", "ept5", 5, "table", "-:12 0:M A - XU - A 0:5 X W R"],
  ["EPT PML4E", "ept4", 4, "table", "-:12 0:M A - XU - A 0:5 X W R"],
  ["EPT PDPTE: 1GB page", "ept4", 3, "page", "SVE -:2 SSS - PW VPW -:5 0:M A:30 0:18 - XU D A PS IPAT MEMTYPE:3 X W R"],
  ["EPT PDPTE: page directory", "ept4", 3, "table", "-:12 0:M A - XU - A PS 0:4 X W R"],
  ["EPT PDE: 2MB page", "ept5", 2, "page", "SVE -:2 SSS - PW VPW -:5 0:M A:21 0:9 - XU D A PS IPAT MEMTYPE:3 X W R"],
  ["EPT PDE: page table", "ept5", 2, "table", "-:12 0:M A - XU - A PS 0:4 X W R"],
  ["EPT PTE: 4KB page", "ept4", 1, "page", "SVE - SPP SSS - PW VPW -:5 0:M A - XU D A - IPAT MEMTYPE:3 X W R"],
  ["EPT: not present", "ept4", 1, "not present", "SVE -:60 X W R"],
];

const WIDTHS = [32, 36, 40, 46, 51, 52];

/** One character string a bit, from bit 0 up: the field's name, `-`, or `0`. */
function bitsOfTable(row: string, format: EntryFormat, width: number): string[] {
  const bits: string[] = [];
  for (const part of row.split(" ").reverse()) {
    const [name, size] = part.split(":") as [string, string | undefined];
    // The address of tables and small pages has no size in the rows: it begins at bit 12. `A` alone at bit 5 or 8 is the flag.
    if (name === "A" && (size !== undefined || bits.length >= 12 || bits.length === 11)) {
      const first = Number(size ?? 12);
      while (bits.length < first) bits.push("-");
      while (bits.length < width) bits.push("ADDRESS");
      continue;
    }
    const count = size === "M" ? 52 - width : Number(size ?? 1);
    for (let i = 0; i < count; i++) bits.push(name);
  }
  expect(bits.length, `${format}: ${row}`).toBe(format === "32bit" ? 32 : 64);
  return bits;
}

/** The same of a layout; every bit must stand in one field. */
function bitsOfLayout(format: EntryFormat, level: number, kind: EntryKind, features: EntryFeatures): string[] {
  const bits: string[] = [];
  for (const field of entryLayout(format, level, kind, features).fields) {
    expect(field.low, `${format} ${level} ${kind}: ${field.name}`).toBe(bits.length);
    const shown = { read: field.name, ignored: "-", reserved: "0" }[field.use];
    for (let i = 0; i < field.width; i++) bits.push(shown);
  }
  return bits;
}

describe("layouts of entries are the manuals'", () => {
  it.each(TABLES)("%s (%s, level %i, %s)", (_, format, level, kind, row) => {
    for (const maxPhysAddr of format === "32bit" ? [40, 52] : WIDTHS) {
      const layout = bitsOfLayout(format, level, kind, { maxPhysAddr });
      expect(layout, `MAXPHYADDR ${maxPhysAddr}`).toEqual(bitsOfTable(row, format, maxPhysAddr));
    }
  });

  it("say of every bit of every layout what it is for, once", () => {
    for (const format of ["32bit", "pae", "4level", "5level", "ept4", "ept5"] as const) {
      for (let level = 1; level <= levelsOf(format); level++) {
        const kinds: EntryKind[] = ["not present"];
        if (level > 1) kinds.push("table");
        if (level === 1 || hasPages(format, level)) kinds.push("page");
        for (const kind of kinds) {
          const layout = entryLayout(format, level, kind);
          const uses = (["read", "ignored", "reserved"] as const).map((use) => bitsUsed(layout, use));
          const whole = (1n << (format === "32bit" ? 32n : 64n)) - 1n;
          expect(uses[0]! | uses[1]! | uses[2]!).toBe(whole);
          expect((uses[0]! & uses[1]!) | (uses[0]! & uses[2]!) | (uses[1]! & uses[2]!)).toBe(0n);
          expect(layout.source).not.toBe("");
          for (const field of layout.fields) expect(field.meaning).not.toBe("");
        }
      }
    }
  });
});

describe("features decide bits", () => {
  const at = (bit: number, ...layout: Parameters<typeof bitsOfLayout>) => bitsOfLayout(...layout)[bit];

  it("CR4.PSE: PS of a 32-bit PDE is ignored without it, and no entry maps 4 MiB", () => {
    expect(at(7, "32bit", 2, "table", { pse: false })).toBe("-");
    expect(() => entryLayout("32bit", 2, "page", { pse: false })).toThrow(RangeError);
  });

  it("PSE-36: address bits 39:32 as far as MAXPHYADDR goes; without it bits 21:13 are reserved", () => {
    const low = (features: EntryFeatures) => bitsOfLayout("32bit", 2, "page", features).slice(13, 22).join(" ");
    const high = "ADDRESS_HIGH";
    expect(low({ maxPhysAddr: 36 })).toBe([...Array(4).fill(high), ...Array(5).fill("0")].join(" "));
    expect(low({ maxPhysAddr: 32 })).toBe(Array(9).fill("0").join(" "));
    expect(low({ maxPhysAddr: 52, pse36: false })).toBe(Array(9).fill("0").join(" "));
  });

  it("EFER.NXE, 1 GiB pages, keys, AMD's bit 8", () => {
    expect(at(63, "4level", 1, "page", { nxe: false })).toBe("0");
    expect(at(63, "pae", 2, "table", { nxe: false })).toBe("0");
    expect(at(7, "4level", 3, "table", { page1g: false })).toBe("0");
    expect(() => entryLayout("5level", 3, "page", { page1g: false })).toThrow(RangeError);
    expect(at(60, "4level", 1, "page", { keys: false })).toBe("-");
    expect(at(8, "4level", 4, "table", { amdReservedBit8: true })).toBe("0");
    expect(at(8, "5level", 5, "table", { amdReservedBit8: true })).toBe("0");
    expect(at(8, "4level", 3, "table", { amdReservedBit8: true })).toBe("-");
  });

  it("an encryption bit is no part of the address and never reserved", () => {
    for (const [maxPhysAddr, bit] of [
      [52, 47],
      [46, 51],
    ] as const) {
      const bits = bitsOfLayout("4level", 1, "page", { maxPhysAddr, encryption: 1n << BigInt(bit) });
      expect(bits[bit]).toBe("C");
      expect(bits[bit - 1]).toBe(bit < maxPhysAddr ? "ADDRESS" : "0");
    }
  });

  it("levels, kinds and widths that do not exist are a RangeError", () => {
    expect(() => entryLayout("pae", 4, "table")).toThrow(/level from 1 to 3, found 4/);
    expect(() => entryLayout("4level", 1.5, "page")).toThrow(RangeError);
    expect(() => entryLayout("4level", 4, "page")).toThrow(RangeError);
    expect(() => entryLayout("4level", 1, "table")).toThrow(RangeError);
    expect(() => entryLayout("4level", 1, "page", { maxPhysAddr: 53 })).toThrow(/maxPhysAddr from 32 to 52, found 53/);
  });
});
