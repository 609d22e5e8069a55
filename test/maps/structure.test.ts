/** Counting what tables lead to without walking each address, and what is refused. */
import { describe, expect, it } from "vitest";
import type { PageSource } from "../../src/api.js";
import { TableStructureError } from "../../src/errors.js";
import { inspectTables, type StructureOptions } from "../../src/maps/structure.js";
import { table32, table64 } from "../dump/builders.js";

const LONG = { cr0: 0x8001_0001n, cr4: 0x20n, efer: 0xd00n };
const PAE = { ...LONG, efer: 0x800n };
const LEGACY = { ...LONG, cr4: 0x10n, efer: 0n };

/** Tables by page frame number; counts how often each is read. */
function pages(tables: Record<number, Uint8Array>): PageSource & { reads: Map<number, number> } {
  const reads = new Map<number, number>();
  return {
    reads,
    readPage(gfn, into) {
      const table = tables[Number(gfn)];
      if (table === undefined) return false;
      reads.set(Number(gfn), (reads.get(Number(gfn)) ?? 0) + 1);
      into.set(table);
      return true;
    },
  };
}

const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
const PAGE_4K = 0x9000_0000n | 7n;
const LARGE = 0x8000_0000n | 0x87n;
const all = (entry: bigint) => table64(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry])));

function inspect(tables: Record<number, Uint8Array>, options: StructureOptions = {}, registers = LONG, cr3 = 0x1000n) {
  return inspectTables(pages(tables), { ...registers, cr3 }, options);
}

describe("counting", () => {
  it("counts leaves by size and tables by level", () => {
    const summary = inspect({
      1: table64({ 0: toTable(2), 511: toTable(2) }),
      2: table64({ 0: toTable(3), 1: LARGE }),
      3: table64({ 0: toTable(4), 7: LARGE, 8: LARGE }),
      4: table64({ 1: PAGE_4K, 2: PAGE_4K, 3: PAGE_4K, 4: 0x9000_0006n }),
    });
    // Everything below the root is reached by two paths.
    expect([...summary.leavesBySize]).toEqual([
      [4096, 6],
      [2 ** 21, 4],
      [2 ** 30, 2],
    ]);
    expect(summary.leaves).toBe(12);
    expect([...summary.tablesByLevel]).toEqual([4, 3, 2, 1].map((level) => [level, 1]));
    expect(summary.executeDisableSeen).toBe(false);
  });

  it("counts a tree of shared tables without walking each path", () => {
    const source = pages({ 1: all(toTable(2)), 2: all(toTable(3)), 3: all(toTable(4)), 4: all(PAGE_4K) });
    const summary = inspectTables(source, { ...LONG, cr3: 0x1000n }, { maxMappings: 2 ** 40 });
    expect(summary.leaves).toBe(512 ** 4);
    expect([...source.reads.values()]).toEqual([1, 1, 1, 1]);
  });

  it("sees execute-disable in any present entry, at any level", () => {
    const nx = 1n << 63n;
    expect(inspect({ 1: table64({ 0: toTable(2) | nx }), 2: table64({}) }).executeDisableSeen).toBe(true);
    expect(inspect({ 1: table64({ 0: nx }) }).executeDisableSeen).toBe(false);
  });

  it("reads 5-level, PAE and 32-bit tables as the mode has them", () => {
    const chain = { 1: table64({ 9: toTable(2) }), 2: table64({ 9: toTable(3) }), 3: table64({ 9: toTable(4) }) };
    const five = { ...LONG, cr4: 0x1020n };
    expect(inspect({ ...chain, 4: table64({ 0: toTable(5) }), 5: table64({ 0: PAGE_4K }) }, {}, five).leaves).toBe(1);
    // A PDPT at byte 0x60 of its page; bit 7 of a PDPTE is no page size.
    const pae = inspect(
      { 1: table64({ 0: toTable(9), 12: toTable(2) | 0x80n, 16: toTable(9) }), 2: all(LARGE) },
      {},
      PAE,
      0x1060n,
    );
    expect([...pae.leavesBySize]).toEqual([[2 ** 21, 512]]);
    const legacy = { 1: table32({ 0: 0x2007, 1023: 0x40_0087 }), 2: table32({ 0: 0x5007, 1023: 0x6005 }) };
    expect([...inspect(legacy, {}, LEGACY).leavesBySize]).toEqual([
      [4096, 2],
      [2 ** 22, 1],
    ]);
  });

  it("takes bit 7 of a 32-bit PDE as a page size only with CR4.PSE", () => {
    const tables = { 1: table32({ 0: 0x2087 }), 2: table32({ 0: 0x5007, 1: 0x6007 }) };
    expect([...inspect(tables, {}, { ...LEGACY, cr4: 0n }).leavesBySize]).toEqual([[4096, 2]]);
  });

  it("with paging off there is nothing", () => {
    expect(inspect({}, {}, { ...LONG, cr0: 1n })).toMatchObject({ mode: "none", leaves: 0 });
  });
});

describe("what is refused", () => {
  const chain = { 1: table64({ 0: toTable(2) }), 2: table64({ 5: toTable(3) }), 3: table64({ 6: toTable(4) }) };

  it("a table that is not there, named with the entry that points to it", () => {
    expect(() => inspect(chain)).toThrow(
      "the level-1 table at 0x4000 is not in the dump: entry 6 of the level-2 table at 0x3000 points to it",
    );
    expect(() => inspect({})).toThrow(/CR3 points to it/);
    const partial = inspect({ ...chain, 1: table64({ 0: toTable(2), 1: toTable(8) }) }, { allowMissing: true });
    expect(partial).toMatchObject({ missingTables: 2, leaves: 0 });
  });

  it("a root that contains itself, unless cycles are allowed", () => {
    const selfMap = { ...chain, 1: table64({ 0: toTable(2), 493: toTable(1) }), 4: table64({ 0: PAGE_4K }) };
    expect(() => inspect(selfMap)).toThrow(TableStructureError);
    expect(() => inspect(selfMap)).toThrow(/table at 0x1000 .*entry 493 of the level-4 table at 0x1000/);
    // The page itself, and through the self-map the four tables as pages, level 1 to 4.
    expect(inspect(selfMap, { allowCycles: true }).leaves).toBe(1 + 4);
  });

  it("a longer cycle", () => {
    expect(() => inspect({ ...chain, 3: table64({ 6: toTable(2) }) })).toThrow(
      /0x2000 contains itself: entry 6 .*0x3000/,
    );
  });

  it("a cycle that lies behind a table that is known from another path", () => {
    const tables = {
      1: table64({ 0: toTable(2), 1: toTable(3) }),
      2: table64({ 0: toTable(4) }),
      3: table64({ 0: toTable(4) }),
      // Below 2 this is no cycle, below 3 it is.
      4: table64({ 0: toTable(3) }),
    };
    expect(() => inspect(tables)).toThrow(/0x3000 contains itself: entry 0 of the level-2 table at 0x4000/);
  });

  it("no table that is used at two levels without containing itself", () => {
    const tables = {
      1: table64({ 0: toTable(2), 1: toTable(3) }),
      2: table64({ 0: toTable(3) }),
      3: table64({ 0: toTable(4) }),
      4: table64({ 0: LARGE }),
    };
    // A 4 KiB page through 2 and 3, a 2 MiB page through 3 alone.
    expect(inspect(tables).leaves).toBe(2);
  });

  it("more mappings than the limit, found before a path is walked twice", () => {
    const tables = { ...chain, 4: all(PAGE_4K) };
    expect(inspect(tables, { maxMappings: 512 }).leaves).toBe(512);
    expect(() => inspect(tables, { maxMappings: 511 })).toThrow(/expected at most 511 mappings, found/);
    const shared = { 1: all(toTable(2)), 2: all(toTable(3)), 3: all(toTable(4)), 4: all(PAGE_4K) };
    expect(() => inspect(shared)).toThrow(/at most 100000000 mappings, found 68719476736/);
  });

  it("more aliases than a dump's size promises, unless the caller welcomes them", () => {
    const parts = (count: number) =>
      table64(Object.fromEntries(Array.from({ length: count }, (_, i) => [i, toTable(3)])));
    const aliased = (count: number) => ({
      1: table64({ 0: toTable(2) }),
      2: parts(count),
      3: all(toTable(4)),
      4: all(PAGE_4K),
    });
    expect(inspect(aliased(16)).leaves).toBe(2 ** 22);
    expect(() => inspect(aliased(17))).toThrow(/at most 4194304 mappings from tables with 512, found 4456448/);
    expect(inspect(aliased(17), { maxMappings: 4_456_448 }).leaves).toBe(4_456_448);
  });

  it("more mappings than the limit, before the rest of the dump is read", () => {
    const tables = { ...chain, 3: table64({ 6: toTable(4), 7: toTable(99) }), 4: all(PAGE_4K) };
    expect(() => inspect(tables, { maxMappings: 511 })).toThrow(/at most 511 mappings, found at least 512/);
  });

  it("shared empty tables that would be gone through once for each path", () => {
    const shared = { 1: all(toTable(2)), 2: all(toTable(3)), 3: all(toTable(4)), 4: table64({}) };
    expect(() => inspect(shared)).toThrow(/at most 6250000 paths to tables, found 134480385/);
  });

  it("paths to tables, but never fewer than there are distinct tables: those cost no more than the dump's size", () => {
    const tables: Record<number, Uint8Array> = {
      1: table64({ 0: toTable(2) }),
      2: table64(Object.fromEntries(Array.from({ length: 40 }, (_, i) => [i, toTable(100 + i)]))),
    };
    for (let i = 0; i < 40; i++) tables[100 + i] = table64({ 0: toTable(200 + i) });
    for (let i = 0; i < 40; i++) tables[200 + i] = table64(i === 0 ? { 0: PAGE_4K } : {});
    expect(inspect(tables, { maxMappings: 16 }).leaves).toBe(1);
    // The root has a second path to all of them.
    tables[1] = table64({ 0: toTable(2), 1: toTable(2) });
    expect(() => inspect(tables, { maxMappings: 16 })).toThrow(/at most 1 paths to tables, found 163/);
    expect(inspect(tables, { maxMappings: 163 * 16 }).leaves).toBe(2);
  });
});
