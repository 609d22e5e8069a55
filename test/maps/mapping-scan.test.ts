/** Ranges listed in pieces, against what the core lists of the same tables. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { PageSource } from "../../src/api.js";
import { openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { loadSync } from "../../src/index.js";
import { MappingScan, type MappingScanOptions, ScanRights } from "../../src/maps/mapping-scan.js";
import type { StructureRegisters } from "../../src/maps/structure.js";
import { mergeRuns } from "../../src/runs.js";
import { table64 } from "../dump/builders.js";

const DUMPS = join(import.meta.dirname, "..", "fixtures", "dumps");
const core = loadSync();

interface Found {
  readonly va: bigint;
  readonly pa: bigint;
  readonly size: bigint;
  readonly level: number;
  readonly rights: number;
}

function scanned(
  source: PageSource,
  registers: StructureRegisters,
  options: MappingScanOptions = {},
  piece = 100,
): { readonly found: Found[]; readonly scan: MappingScan; readonly steps: number } {
  const scan = new MappingScan(source, registers, options);
  const found: Found[] = [];
  let steps = 1;
  const page = (value: number) => BigInt(value) * 4096n;
  while (
    scan.step(piece, (va, pa, pages, level, rights) =>
      found.push({ va: page(va), pa: page(pa), size: page(pages), level, rights }),
    )
  ) {
    steps++;
  }
  return { found, scan, steps };
}

describe.each(["amd64-1g", "amd64-4l", "amd64-la57", "amd64-swap", "i386-nopae", "i386-pae"])("%s", (name) => {
  const open = async () => {
    const dump = await openDumpFile(join(DUMPS, name, "pt.elf.gz"));
    return { dump, registers: registersFromDump(dump) };
  };

  it("has the ranges of the core", async () => {
    const { dump, registers } = await open();
    const { cr0, cr3, cr4, efer, encryptionMask } = registers;
    const memory = core.createMemory({ source: dump.tableSource });
    const space = core.createAddressSpace(memory, { cr0, cr3, cr4, efer, encryptionMask, lenient: true });
    const sizes = name === "i386-nopae" ? [0, 12, 22] : [0, 12, 21, 30];
    const expected = [...mergeRuns(space.leaves())].map(({ va, pa, size, pageSize, rights }) => ({
      va,
      pa,
      size,
      level: sizes.indexOf(Math.log2(Number(pageSize))),
      rights:
        (rights.user ? ScanRights.User : 0) |
        (rights.write ? ScanRights.Write : 0) |
        (rights.execute ? ScanRights.Execute : 0),
    }));
    const { found, scan } = scanned(dump.tableSource, registers);
    expect(found).toEqual(expected);
    expect(scan.done).toBe(1);
    expect(scan.cyclic).toBe(false);

    const middle = expected[Math.floor(expected.length / 2)]!;
    const behind = scanned(dump.tableSource, registers, { from: middle.va }).found;
    expect(behind).toEqual(expected.slice(expected.indexOf(middle)));
    const before = scanned(dump.tableSource, registers, { to: middle.va }).found;
    expect(before).toEqual(expected.slice(0, expected.indexOf(middle)));
  });
});

const LONG = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
const all = (entry: bigint) => table64(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry])));

function pages(tables: Record<number, Uint8Array>): PageSource & { reads: number } {
  return {
    reads: 0,
    readPage(gfn, into) {
      const table = tables[Number(gfn)];
      this.reads++;
      if (table === undefined) return false;
      into.set(table);
      return true;
    },
  };
}

describe("crafted tables", () => {
  it("are no endless work where they map nothing", () => {
    const source = pages({ 1: all(toTable(2)), 2: all(toTable(3)), 3: all(toTable(4)), 4: all(0n) });
    const { found } = scanned(source, LONG, {}, 1000);
    expect(found).toEqual([]);
    expect(source.reads).toBe(4);
  });

  it("are gone through in pieces where they contain themselves", () => {
    const scan = new MappingScan(pages({ 1: all(toTable(1)) }), LONG);
    let ranges = 0;
    for (let step = 0; step < 10; step++) expect(scan.step(10_000, () => ranges++)).toBe(true);
    expect(scan.cyclic).toBe(true);
    expect(ranges).toBeGreaterThan(10_000);
    expect(ranges).toBeLessThan(101_000);
  });

  it("map nothing where a table is missing, which is counted", () => {
    const { found, scan } = scanned(
      pages({ 1: table64({ 0: toTable(9), 1: toTable(9), 511: toTable(2) }), 2: table64({ 0: 0x8000_0087n }) }),
      LONG,
    );
    expect(scan.missingTables).toBe(1);
    expect(found).toEqual([{ va: 0xffff_ff80_0000_0000n, pa: 0x8000_0000n, size: 2n ** 30n, level: 3, rights: 7 }]);
  });

  it("go on where the source threw", () => {
    const tables = {
      1: table64({ 0: toTable(2) }),
      2: table64({ 0: toTable(3) }),
      3: table64({ 0: toTable(4), 1: 0x20_1087n }),
      4: all(0x9007n),
    };
    const source = pages(tables);
    const missed = new Set<bigint>();
    const fails: PageSource = {
      readPage(gfn, into) {
        if (missed.has(gfn)) return source.readPage(gfn, into);
        missed.add(gfn);
        throw new Error("not yet");
      },
    };
    const scan = new MappingScan(fails, LONG);
    const found: number[] = [];
    let thrown = 0;
    for (let more = true; more; ) {
      try {
        more = scan.step(50, (va) => found.push(va));
      } catch {
        thrown++;
      }
    }
    expect(thrown).toBe(4);
    // The same page 512 times, and a large one whose PAT bit is no address.
    expect(found).toEqual(Array.from({ length: 513 }, (_, index) => index));
  });

  it("part ranges at boundaries", () => {
    const table = table64(Object.fromEntries(Array.from({ length: 8 }, (_, i) => [i, BigInt(i * 4096 + 0x9000) | 3n])));
    const source = pages({
      1: table64({ 0: toTable(2) }),
      2: table64({ 0: toTable(3) }),
      3: table64({ 0: toTable(4) }),
      4: table,
    });
    const { found } = scanned(source, LONG, { boundaries: [0x3000n, 0x5000n, 0x8000n] });
    expect(found.map(({ va, size }) => [va, size])).toEqual([
      [0n, 0x3000n],
      [0x3000n, 0x2000n],
      [0x5000n, 0x3000n],
    ]);
  });
});
