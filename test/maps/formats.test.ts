/** The formats of listings: `info tlb`, leaves, runs, modes. */
import { describe, expect, it } from "vitest";
import type { Leaf, PagingMode } from "../../src/api.js";
import { decodeEntry } from "../../src/decode/entry.js";
import { infoTlbLine } from "../../src/maps/info-tlb.js";
import { leafLine } from "../../src/maps/leaves.js";
import { pagingModeOf } from "../../src/maps/mode.js";
import { mergeRuns } from "../../src/runs.js";

const RIGHTS = { read: true, write: true, user: true, execute: true, userExecute: true };
const leaf = (fields: Partial<Leaf>): Leaf => ({
  va: 0x1000n,
  pa: 0x2000n,
  size: 4096n,
  rights: RIGHTS,
  entry: 0x2007n,
  level: 1,
  ...fields,
});

describe("info tlb", () => {
  const M2 = { size: 1n << 21n, level: 2 };
  it.each<[string, PagingMode, Partial<Leaf>, string]>([
    [
      "every letter",
      "4level",
      { ...M2, va: 0n, entry: (1n << 63n) | 0x1ffn },
      "0000000000000000: 0000000000000000 XGPDACTUW",
    ],
    ["no letter", "4level", { va: 0n, entry: 0x5001n }, "0000000000000000: 0000000000005000 ---------"],
    ["PAT of a 4K page is no P", "4level", { entry: 0x2081n }, "0000000000001000: 0000000000002000 ---------"],
    [
      "long mode keeps 50 bits",
      "4level",
      { va: 0xffff_8000_0000_0000n, entry: 0x7fff_ffff_ffff_f001n },
      "ffff800000000000: 0003fffffffff000 ---------",
    ],
    [
      "long mode drops PAT of a 2M page",
      "5level",
      { ...M2, entry: 0x3f_f081n },
      "0000000000001000: 0000000000200000 --P------",
    ],
    [
      "1G pages",
      "4level",
      { size: 1n << 30n, level: 3, entry: 0x7fff_f081n },
      "0000000000001000: 0000000040000000 --P------",
    ],
    [
      "PAE keeps bit 63 and above",
      "pae",
      { entry: 0x8010_0000_0000_2001n },
      "0000000000001000: 8010000000002000 X--------",
    ],
    [
      "PAE 2M keeps bit 20",
      "pae",
      { ...M2, entry: 0x8000_0000_003f_f081n },
      "0000000000001000: 8000000000300000 X-P------",
    ],
    [
      "32-bit 4M keeps bit 21 and leaves PSE-36 bits where they are",
      "32bit",
      { size: 1n << 22n, level: 2, pa: 0x3_0040_0000n, entry: 0x60_6083n },
      "0000000000001000: 0000000000600000 --P-----W",
    ],
    ["32-bit 4K", "32bit", { entry: 0xffff_f1ffn }, "0000000000001000: 00000000fffff000 -G-DACTUW"],
  ])("%s", (_, mode, fields, line) => {
    expect(infoTlbLine(leaf(fields), mode)).toBe(line);
  });
});

describe("leaves", () => {
  it("prints address, target, size, rights and absence", () => {
    expect(leafLine(leaf({}), "held")).toBe("0000000000001000 2000 4K uwx");
    const none = { ...RIGHTS, user: false, write: false, execute: false };
    expect(leafLine(leaf({ size: 1n << 22n, rights: none }), "absent")).toBe("0000000000001000 2000 4M --- absent");
    expect(leafLine(leaf({ size: 1n << 21n }), "held")).toMatch(/ 2M /);
    expect(leafLine(leaf({ size: 1n << 30n }), "held")).toMatch(/ 1G /);
  });
});

describe("runs", () => {
  const page = (index: bigint, fields: Partial<Leaf> = {}) =>
    leaf({ va: 0x1000n * (index + 1n), pa: 0x1000n * (index + 2n), ...fields });
  const sizes = (...leaves: Leaf[]) => [...mergeRuns(leaves)].map((run) => run.size);

  it("merges neighbours with equal distance, rights and page size", () => {
    expect([...mergeRuns([page(0n), page(1n), page(2n)])]).toEqual([
      { va: 0x1000n, pa: 0x2000n, size: 0x3000n, pageSize: 4096n, rights: RIGHTS },
    ]);
    expect(sizes()).toEqual([]);
  });

  it.each<[string, Partial<Leaf>]>([
    ["a hole", { va: 0x3000n, pa: 0x4000n }],
    ["another target", { pa: 0x9000n }],
    ["another page size", { size: 1n << 21n }],
    ["write right", { rights: { ...RIGHTS, write: false } }],
    ["user right", { rights: { ...RIGHTS, user: false } }],
    ["execute right", { rights: { ...RIGHTS, execute: false } }],
  ])("begins a new run at %s", (_, fields) => {
    expect(sizes(page(0n), page(1n, fields)).length).toBe(2);
  });
});

describe("modes", () => {
  it.each([
    [0x1n, 0x1020n, 0xd00n, "none"],
    [0x8000_0001n, 0x10n, 0x800n, "32bit"],
    [0x8000_0001n, 0x1020n, 0x900n, "pae"],
    [0x8000_0001n, 0x20n, 0xd00n, "4level"],
    [0x8000_0001n, 0x1020n, 0xd00n, "5level"],
  ])("CR0 %x CR4 %x EFER %x", (cr0, cr4, efer, mode) => {
    expect(pagingModeOf({ cr0, cr4, efer })).toBe(mode);
  });
});

describe("entries", () => {
  const names = (entry: ReturnType<typeof decodeEntry>) => entry.fields.map((field) => field.name);

  it("are tables, pages or not present", () => {
    expect(decodeEntry("4level", 4, 0x1087n)).toMatchObject({ name: "PML4E", kind: "table", address: 0x1000n });
    expect(decodeEntry("4level", 3, 0x4000_1087n)).toMatchObject({
      kind: "page",
      address: 0x4000_0000n,
      pageSize: 1n << 30n,
    });
    expect(decodeEntry("pae", 3, 0x1081n)).toMatchObject({ name: "PDPTE", kind: "table", address: 0x1000n });
    expect(decodeEntry("4level", 1, 0x1086n)).toMatchObject({ kind: "not present", address: undefined, fields: [] });
    expect(decodeEntry("ept4", 1, 0x1004n)).toMatchObject({ kind: "page", address: 0x1000n });
  });

  it("of EPT are present by bits 2:0, not by bit 10 alone", () => {
    expect(decodeEntry("ept4", 1, 0x5400n).kind).toBe("not present");
    for (const bit of [1n, 2n, 4n]) expect(decodeEntry("ept4", 1, 0x5000n | bit).kind).toBe("page");
  });

  it("of 32-bit paging have 4 MiB pages with PSE, and PSE-36 addresses", () => {
    const entry = 0x0040_6083n;
    expect(decodeEntry("32bit", 2, entry)).toMatchObject({
      kind: "page",
      address: 0x3_0040_0000n,
      pageSize: 1n << 22n,
    });
    expect(decodeEntry("32bit", 2, entry, { pse: false })).toMatchObject({ kind: "table", address: 0x0040_6000n });
    expect(names(decodeEntry("32bit", 2, 0x0040_1081n))).toContain("PAT");
    expect(() => decodeEntry("32bit", 1, 1n << 32n)).toThrow(RangeError);
  });

  it("name PAT, keys and reserved bits by level and mode", () => {
    expect(names(decodeEntry("4level", 1, 0x81n | (3n << 59n)))).toEqual(["P", "PAT", "PKEY"]);
    expect(names(decodeEntry("pae", 1, 0x1n | (1n << 60n)))).toEqual(["P", "RESERVED"]);
    expect(() => decodeEntry("pae", 4, 1n)).toThrow(RangeError);
    expect(() => decodeEntry("4level", 0, 1n)).toThrow(RangeError);
  });
});
