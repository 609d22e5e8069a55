/** Address spaces that are found without symbols. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { type FoundSpace, openDumpAsync, SpaceScan, type SpaceScanOptions } from "../../src/dump/browser.js";
import { MemoryByteSource } from "../../src/dump/index.js";
import { openDump, openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { at, dumpOf, P, RW, SYSTEM, type Tables, USER } from "./isolated-guest.js";

const DUMPS = new URL("../fixtures/dumps/", import.meta.url);

function scan(dump: ConstructorParameters<typeof SpaceScan>[0], options?: SpaceScanOptions): FoundSpace[] {
  const search = new SpaceScan(dump, options);
  while (search.step(100));
  expect(search.done).toBe(search.total);
  return search.spaces();
}

describe("dumps of real guests", () => {
  it.each(["amd64-4l", "amd64-1g", "amd64-la57", "i386-pae", "i386-nopae"])("%s: the space that runs", async (name) => {
    const dump = await openDumpFile(new URL(`${name}/pt.elf.gz`, DUMPS).pathname);
    const registers = registersFromDump(dump);
    const core = loadSync();
    const memory = core.createMemory({ source: dump.pageSource });
    const space = core.createAddressSpace(memory, { ...registers, lenient: true });
    const mapped = { user: 0, kernel: 0, writableExecutable: 0 };
    for (const { size, rights } of space.leaves()) {
      mapped[rights.user ? "user" : "kernel"] += Number(size);
      if (rights.write && rights.execute) mapped.writableExecutable++;
    }
    const flags = space.mode === "pae" ? 32n : 4096n;
    expect(scan(dump)).toEqual([
      {
        root: registers.cr3 - (registers.cr3 % flags),
        mode: space.mode,
        kind: "process",
        userRoot: undefined,
        mapped,
        cpus: [0],
        isKernels: false,
        shared: 1,
        kernelPart: registers.cr3 - (registers.cr3 % flags),
      },
    ]);
    dump.close();
  });
});

const open = (tables: Tables) => openDump(new MemoryByteSource(dumpOf(tables), "made.elf"));
const rootsOf = (tables: Tables, options?: SpaceScanOptions) => scan(open(tables), options).map(({ root }) => root);

describe("a system with page-table isolation", () => {
  it("is the kernel's space and the process's, whose two roots are one", () => {
    const found = scan(open(SYSTEM), { modes: ["4level"], kernelRoot: 0x21_0000n });
    expect(found).toEqual([
      {
        root: 0x22_0000n,
        mode: "4level",
        kind: "process",
        userRoot: 0x22_1000n,
        mapped: { user: 0x2000, kernel: 0x200000, writableExecutable: 1 },
        cpus: [],
        isKernels: false,
        shared: 2,
        kernelPart: 0x21_0000n,
      },
      {
        root: 0x21_0000n,
        mode: "4level",
        kind: "kernel",
        userRoot: undefined,
        mapped: { user: 0, kernel: 0x200000, writableExecutable: 0 },
        cpus: [],
        isKernels: true,
        shared: 2,
        kernelPart: 0x21_0000n,
      },
    ]);
  });

  it("does not join roots whose tables for users differ", () => {
    const other = { ...SYSTEM, 545: { ...SYSTEM[0x221], 1: at(0x240, P | RW | USER) } };
    expect(scan(open(other), { modes: ["4level"] }).map(({ userRoot }) => userRoot)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it("does not join roots that are not aligned as a pair", () => {
    const moved = { ...SYSTEM, 544: {}, 545: SYSTEM[0x220]!, 546: SYSTEM[0x221]! };
    expect(scan(open(moved), { modes: ["4level"] }).map(({ root, userRoot }) => [root, userRoot])).toContainEqual([
      0x22_1000n,
      undefined,
    ]);
  });

  it("is found in every mode that may be, and only in that one", () => {
    expect(rootsOf(SYSTEM)).toEqual(rootsOf(SYSTEM, { modes: ["4level"] }));
    expect(rootsOf(SYSTEM, { modes: ["5level"] })).toEqual([]);
  });

  it("is found from a Blob, piece by piece", async () => {
    const { dump, fetching } = await openDumpAsync(new Blob([dumpOf(SYSTEM) as BlobPart]));
    const search = new SpaceScan(dump, { modes: ["4level"] });
    while (await fetching(() => search.step(3)));
    expect((await fetching(() => search.spaces())).map(({ root }) => root)).toEqual([0x22_0000n, 0x21_0000n]);
  });

  it.each<[string, Tables]>([
    ["all tables", SYSTEM],
    ["a bad table", { ...SYSTEM, 578: { 0: (1n << 46n) | P | USER } }],
  ])("is judged the same though reading each table is interrupted once: %s", (_, tables) => {
    const dump = open(tables);
    const read = new Set<bigint>();
    const tableSource: typeof dump.tableSource = {
      readPage(gfn, into) {
        if (read.has(gfn)) return dump.tableSource.readPage(gfn, into);
        read.add(gfn);
        throw new RangeError("not yet");
      },
    };
    const search = new SpaceScan({ ...dump, presence: dump.presence.bind(dump), tableSource }, { modes: ["4level"] });
    while (search.step(100));
    let found: FoundSpace[] | undefined;
    while (found === undefined) {
      try {
        found = search.spaces();
      } catch (error) {
        expect((error as Error).message).toBe("not yet");
      }
    }
    expect(found).toEqual(scan(open(tables), { modes: ["4level"] }));
    expect(read.size).toBeGreaterThan(3);
  });

  it("asks for a positive number of pages", () => {
    const search = new SpaceScan(open(SYSTEM));
    for (const wrong of [0, -1, 1.5, Number.NaN]) expect(() => search.step(wrong)).toThrow(RangeError);
  });
});

describe("what is no root", () => {
  const changed = (gfn: number, entries: Record<number, bigint>): Tables => ({
    ...SYSTEM,
    [gfn]: { ...SYSTEM[gfn], ...entries },
  });
  it.each<[string, Tables, bigint[]]>([
    ["an entry that is not present and not 0", changed(0x210, { 7: 0x1000n }), [0x22_0000n]],
    ["a large page in a root", changed(0x210, { 7: at(0x300, P | 0x80n) }), [0x22_0000n]],
    ["a table that is not in the dump", changed(0x210, { 7: at(0x999) }), [0x22_0000n]],
    ["what is no entry in a table of level 3", changed(0x240, { 9: 0x1000n }), [0x21_0000n]],
    ["an address beyond what machines have", changed(0x242, { 0: (1n << 46n) | P | USER }), [0x21_0000n]],
    ["a large page that is not aligned", changed(0x241, { 1: at(0x603, P | USER | 0x80n) }), [0x21_0000n]],
    ["a space that does not map itself", changed(0x302, { 0: 0x4000e3n }), []],
    ["a space that points to itself instead", changed(0x210, { 7: at(0x210) }), [0x22_0000n, 0x21_0000n]],
  ])("%s", (_, tables, roots) => {
    expect(rootsOf(tables, { modes: ["4level"] })).toEqual(roots);
  });

  it("the tables of a root with more levels", () => {
    const five: Tables = { 520: { 0: at(0x220), 300: at(0x210) }, ...SYSTEM };
    expect(scan(open(five), { modes: ["5level"] }).map(({ root, mode }) => [root, mode])).toEqual([
      [0x20_8000n, "5level"],
    ]);
  });
});

describe("many roots", () => {
  /** Roots from frame 0x400 on, which share the kernel's tables: 64 small ones below each of 8 entries, none of which maps a root. */
  const many = (roots: number, mapsThem: boolean): Tables => {
    const tables: Tables = {
      256: Object.fromEntries(Array.from({ length: 64 }, (_, index) => [index, at(0x200 + index)])),
    };
    for (let index = 0; index < 64; index++) tables[0x200 + index] = { 0: at(0x300 + index) };
    for (let index = 0; index < 64; index++) tables[0x300 + index] = { 0: at(0x9000 + index) };
    if (mapsThem) tables[0x33f] = { 0: 0x40_00e3n, 1: 0x60_00e3n };
    if (mapsThem) tables[0x23f] = { 0: 0x40_00e3n, 1: 0x60_00e3n };
    for (let root = 0; root < roots; root++)
      tables[0x400 + 2 * root] = { [256 + (root % 200)]: at(0x100), 511: at(0x100) };
    return tables;
  };

  const readsOf = (tables: Tables) => {
    const dump = open(tables);
    let reads = 0;
    const tableSource = {
      readPage(gfn: bigint, into: Uint8Array) {
        reads++;
        return dump.tableSource.readPage(gfn, into);
      },
    };
    const search = new SpaceScan({ ...dump, ranges: dump.ranges, tableSource }, { modes: ["4level"] });
    while (search.step(1000));
    return { found: search.spaces().length, reads, skipped: search.skipped };
  };

  it("are looked at once below what they share, whether they map themselves or not", () => {
    expect(readsOf(many(300, true))).toMatchObject({ found: 300, skipped: 0 });
    const { found, reads, skipped } = readsOf(many(300, false));
    expect({ found, skipped }).toEqual({ found: 0, skipped: 0 });
    // Each root is read a few times, and each table for each of the levels that it may have.
    expect(reads).toBeLessThan(300 * 4 + 129 * 10);
  });

  it("that are judged are not judged again where the judging is interrupted", () => {
    const dump = open(many(300, true));
    // So little is kept of what was fetched that no root is still there when another one is looked at.
    const kept: bigint[] = [];
    let reads = 0;
    const tableSource = {
      readPage(gfn: bigint, into: Uint8Array) {
        // Each root is asked for a few times, each time twice; from the beginning each time there would be no end.
        if (++reads > 300 * 30 + 129 * 10) throw new Error("too many reads");
        if (kept.includes(gfn)) return dump.tableSource.readPage(gfn, into);
        kept.push(gfn);
        if (kept.length > 8) kept.shift();
        throw new RangeError("not yet");
      },
    };
    const search = new SpaceScan({ ...dump, ranges: dump.ranges, tableSource }, { modes: ["4level"] });
    while (search.step(1000));
    let found: FoundSpace[] | undefined;
    while (found === undefined) {
      try {
        found = search.spaces();
      } catch (error) {
        expect((error as Error).message).toBe("not yet");
      }
    }
    expect(found).toHaveLength(300);
  });

  it("lead to pages that are all zero, which are not read again", () => {
    const tables = many(20, true);
    const dump = open({ ...tables, 256: { ...tables[0x100], 100: at(0x700) }, 1792: {} });
    const again: bigint[] = [];
    const tableSource = {
      readPage(gfn: bigint, into: Uint8Array) {
        const there = dump.tableSource.readPage(gfn, into);
        if (there && into.every((byte) => byte === 0)) again.push(gfn);
        return there;
      },
    };
    const search = new SpaceScan({ ...dump, ranges: dump.ranges, tableSource }, { modes: ["5level", "4level"] });
    while (search.step(1000));
    expect(search.spaces()).toHaveLength(20);
    expect(again).toEqual([]);
  });

  it("that all map all others are counted, where it would take for ever to see whether they map themselves", () => {
    const count = 400;
    const tables: Tables = {};
    for (let table = 0; table < count; table++) {
      tables[0x100 + table] = Object.fromEntries(
        Array.from({ length: 512 }, (_, index) => [index, at(0x100 + ((table * 37 + index * 11) % count))]),
      );
    }
    const { found, skipped } = readsOf(tables);
    expect(found + skipped).toBeGreaterThan(0);
    expect(skipped).toBeGreaterThan(count / 2);
  });
});
