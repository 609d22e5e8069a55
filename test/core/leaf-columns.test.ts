/** Leaves as columns, and runs, beside the leaves as objects. */
import { describe, expect, it } from "vitest";
import type { Leaf, PageSource } from "../../src/api.js";
import { type Core, type CoreSpace, LeafFlag, loadSync } from "../../src/core/index.js";
import { ConfigError, DisposedError, UnsupportedError } from "../../src/errors.js";
import { mergeRuns } from "../../src/runs.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const core = loadSync();

type Row = readonly [va: bigint, pa: bigint, size: bigint, rights: string, entry: bigint, level: number];

/** Rights as letters; in EPT u is the right to read, x that of supervisor addresses and X that of user addresses. */
function lettersOf({ rights }: Leaf, ept: boolean): string {
  const { read, write, user, execute, userExecute } = rights;
  const flags = [ept ? read && "u" : user && "u", write && "w", execute && "x", ept && userExecute && "X"];
  return flags.filter((one) => one !== false).join("");
}

function rowsOf(space: CoreSpace): Row[] {
  const ept = space.mode.startsWith("ept");
  return [...space.leaves()].map((leaf) => [leaf.va, leaf.pa, leaf.size, lettersOf(leaf, ept), leaf.entry, leaf.level]);
}

/** The same by columns of that length; `fill` may be told how to ask. */
function columnRowsOf(from: Core, space: CoreSpace, length: number, ask = (fill: () => number) => fill()): Row[] {
  const columns = from.allocateColumns(length);
  const listing = space.leafColumns();
  const rows: Row[] = [];
  const letter = (flags: number, bit: number, name: string) => ((flags & bit) === 0 ? "" : name);
  for (;;) {
    const count = ask(() => listing.fill(columns));
    if (count === 0) break;
    expect(count).toBeLessThanOrEqual(length);
    const { vaPage, paPage, pages, flags, entry } = columns;
    for (let i = 0; i < count; i++) {
      const one = flags[i]!;
      rows.push([
        BigInt(vaPage[i]!) << 12n,
        BigInt(paPage[i]!) << 12n,
        BigInt(pages[i]!) << 12n,
        letter(one, LeafFlag.user, "u") +
          letter(one, LeafFlag.write, "w") +
          letter(one, LeafFlag.execute, "x") +
          letter(one, LeafFlag.userExecute, "X"),
        entry[i]!,
        one >>> LeafFlag.levelShift,
      ]);
    }
  }
  columns.dispose();
  return rows;
}

/** 4-level tables with pages of every size in both halves, of which some go on and some do not; `seed` decides which. */
function longSpace(seed: number): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
  const put = (table: number, index: number, entry: bigint) => memory.writeU64(table + index * 8, entry);
  for (const index of [0, 511]) put(0x1000, index, 0x2007n);
  for (const index of [0, 1, 2, 511]) put(0x2000, index, index === 2 ? 0x40000087n : 0x3007n);
  for (let i = 0; i < 6; i++) put(0x3000, i, BigInt(0x8000 + i * 0x1000) | (i === 3 ? 5n : 7n));
  put(0x3000, 8, 0x20_0087n);
  put(0x3000, 9, 0x40_0087n);
  put(0x3000, 511, 0x000f_ffff_ffe0_0083n);
  let state = seed;
  const next = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let i = 0; i < 6 * 512; i++) {
    const frame = next(12) === 0 ? next(1 << 20) : i + 0x100;
    if (next(30) !== 0) put(0x8000, i, (BigInt(frame) << 12n) | (next(20) === 0 ? 0x8000_0000_0000_0005n : 7n));
  }
  return core.createAddressSpace(memory, { ...LONG, maxPhysAddr: 52 });
}

function narrowSpace(): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
  memory.writeU32(0x1000, 0x2007);
  memory.writeU32(0x1004, 0x0040_0087);
  // PSE-36: bits 39:32 of the address in bits 20:13.
  memory.writeU32(0x1008, 0x0080_2085);
  memory.writeU32(0x1ffc, 0x2005);
  for (let i = 0; i < 1024; i++) if (i % 7 !== 0) memory.writeU32(0x2000 + i * 4, ((i + 16) << 12) | (i % 3 ? 7 : 3));
  return core.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x10, efer: 0 });
}

function eptSpace(): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
  for (const table of [1n, 2n, 3n]) memory.writeU64(table << 12n, ((table + 1n) << 12n) | 0x407n);
  for (let i = 0; i < 512; i++) {
    const rights = [0x407n, 0x403n, 0x7n, 0x1n, 0x404n, 0x400n][i % 6]!;
    memory.writeU64(0x4000 + i * 8, (BigInt(i) << 12n) | 0x30n | rights);
  }
  return core.createEpt(memory, { eptp: 0x101e, modeBasedExecute: true, executeOnly: true });
}

const SPACES: readonly (readonly [string, () => CoreSpace])[] = [
  ["4-level", () => longSpace(1)],
  ["32-bit", narrowSpace],
  ["EPT", eptSpace],
];

describe.each(SPACES)("leaves of %s tables", (_, make) => {
  it.each([1, 2, 3, 4, 513, 1024, 1026, 100_000])("are the same in columns of %i", (length) => {
    const space = make();
    const rows = rowsOf(space);
    expect(rows.length).toBeGreaterThan(400);
    expect(columnRowsOf(core, space, length)).toEqual(rows);
  });

  it("make the runs that mergeRuns makes of them", () => {
    const space = make();
    const expected = [...mergeRuns(space.leaves())];
    expect([...space.mappings()]).toEqual(expected);
    expect(expected.length).toBeGreaterThan(10);
  });
});

it("make runs across blocks, up to the last leaf of one", () => {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  for (let i = 0; i < 6; i++) memory.writeU64(0x3000 + i * 8, BigInt(0x8000 + i * 0x1000) | 7n);
  const space = core.createAddressSpace(memory, LONG);
  for (let i = 0; i < 6 * 512; i++) memory.writeU64(0x8000 + i * 8, (BigInt(i) << 12n) | 7n);
  const sizes = () => [...space.mappings()].map(({ va, size }) => [Number(va >> 12n), Number(size >> 12n)]);
  expect(sizes()).toEqual([[0, 3072]]);
  // Blocks have 1,024 leaves: a run that ends with one, one that begins with one, and one of a single leaf at its end.
  for (const odd of [1024, 2047]) {
    memory.writeU64(0x8000 + odd * 8, 0x7777_7007n);
    expect(sizes()).toEqual(
      [...mergeRuns(space.leaves())].map(({ va, size }) => [Number(va >> 12n), Number(size >> 12n)]),
    );
  }
  expect(sizes()).toEqual([
    [0, 1024],
    [1024, 1],
    [1025, 1022],
    [2047, 1],
    [2048, 1024],
  ]);
  space.dispose();
  memory.dispose();
});

it.each([2, 3, 4, 5])("makes the same runs of other tables: %i", (seed) => {
  const space = longSpace(seed);
  expect([...space.mappings()]).toEqual([...mergeRuns(space.leaves())]);
});

it("make runs across 4 GiB, where both addresses go on there", () => {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000 + 3 * 8, 0x3007n);
  memory.writeU64(0x2000 + 4 * 8, 0x4007n);
  memory.writeU64(0x3000 + 511 * 8, 0xffe0_0087n);
  const space = core.createAddressSpace(memory, LONG);
  const cases = [
    [0x1_0000_0087n, [0x40_0000n]],
    [0x0_0000_0087n, [0x20_0000n, 0x20_0000n]],
    [0x2_0000_0087n, [0x20_0000n, 0x20_0000n]],
  ] as const;
  for (const [entry, sizes] of cases) {
    memory.writeU64(0x4000, entry);
    expect([...space.mappings()].map(({ size }) => size)).toEqual(sizes);
  }
  // The same lower half, 4 GiB further on.
  memory.writeU64(0x2000 + 4 * 8, 0n);
  memory.writeU64(0x2000 + 8 * 8, 0x4007n);
  memory.writeU64(0x4000, 0x1_0000_0087n);
  expect([...space.mappings()]).toHaveLength(2);
  space.dispose();
  memory.dispose();
});

it("makes no run of pages of two sizes", () => {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  memory.writeU64(0x3000, 0x4007n);
  memory.writeU64(0x3008, 0x20_0087n);
  memory.writeU64(0x4000 + 511 * 8, 0x1f_f007n);
  const space = core.createAddressSpace(memory, LONG);
  expect([...space.mappings()].map(({ size }) => size)).toEqual([0x1000n, 0x20_0000n]);
  space.dispose();
  memory.dispose();
});

it("shares what leaves have in common, so that nobody may change it", () => {
  const [first, second] = [...longSpace(1).leaves()];
  expect(first!.rights).toBe(second!.rights);
  expect(() => Object.assign(first!.rights, { write: false })).toThrow(TypeError);
});

class NotYet extends Error {}

/** A source that throws the first time that it is asked for a page, over as many tables as wanted. */
function lazyMachine(tables: number, onRead: () => void = () => {}) {
  const own = loadSync();
  const asked = new Set<bigint>();
  const source: PageSource = {
    readPage(gfn, into) {
      if (!asked.has(gfn)) {
        asked.add(gfn);
        throw new NotYet();
      }
      onRead();
      const words = new BigUint64Array(into.buffer, into.byteOffset, 512);
      words.fill(0n);
      if (gfn === 1n) words[0] = 0x2007n;
      else if (gfn === 2n) words[0] = 0x3007n;
      else if (gfn === 3n) for (let i = 0; i < tables; i++) words[i] = (BigInt(i + 16) << 12n) | 7n;
      else for (let i = 0; i < 512; i += 2) words[i] = (gfn << 21n) | (BigInt(i) << 12n) | 7n;
      return true;
    },
  };
  const memory = own.createMemory({ source });
  const { linear } = own.internals();
  return { core: own, memory, linear, asked, space: own.createAddressSpace(memory, LONG) };
}

describe("columns over a source", () => {
  it("are filled on where the source threw, with what was there before it was asked", () => {
    const { core: own, space } = lazyMachine(12);
    let thrown = 0;
    const counts: number[] = [];
    const rows = columnRowsOf(own, space, 4096, (fill) => {
      for (;;) {
        try {
          const count = fill();
          counts.push(count);
          return count;
        } catch (error) {
          if (!(error instanceof NotYet)) throw error;
          thrown++;
        }
      }
    });
    expect(rows).toEqual(rowsOf(space));
    expect(rows).toHaveLength(12 * 256);
    expect(thrown).toBe(15);
    expect(counts).toEqual([...Array.from({ length: 12 }, () => 256), 0]);
  });

  it("are good where the memory grew, and their old arrays empty", () => {
    const { core: own, space, asked } = lazyMachine(400);
    for (const gfn of [1n, 2n, 3n, ...Array.from({ length: 400 }, (_, i) => BigInt(i + 16))]) asked.add(gfn);
    const columns = own.allocateColumns(100_000);
    const old = columns.vaPage;
    // Hundreds of pages are kept: more than the memory had to spare.
    let count = 0;
    const listing = space.leafColumns();
    for (let filled = listing.fill(columns); filled > 0; filled = listing.fill(columns)) count += filled;
    expect(count).toBe(400 * 256);
    expect(old).toHaveLength(0);
    expect(columns.vaPage).toHaveLength(100_000);
  });

  it("keep nothing of the linear memory while the listing waits, when it ends early, or at its end", () => {
    const { core: own, space, linear, asked } = lazyMachine(1);
    const columns = own.allocateColumns(64);
    const free = linear.freeBytes;
    const waiting = space.leafColumns();
    expect(() => waiting.fill(columns)).toThrow(NotYet);
    expect(linear.freeBytes).toBe(free);
    for (const gfn of [1n, 2n, 3n, 16n]) asked.add(gfn);
    const early = space.leafColumns();
    expect(early.fill(columns)).toBe(64);
    // Pages of the source are kept by now.
    const during = linear.freeBytes;
    early.end();
    early.end();
    expect(linear.freeBytes).toBeGreaterThan(during);
    expect(early.fill(columns)).toBe(0);
    const kept = linear.freeBytes;
    const whole = space.leafColumns();
    while (whole.fill(columns) > 0);
    expect(linear.freeBytes).toBe(kept);
    waiting.end();
    columns.dispose();
    columns.dispose();
  });
});

describe("columns", () => {
  it("are refused where they are another core's or gone, with nothing lost of the listing", () => {
    const space = longSpace(1);
    const rows = rowsOf(space);
    const listing = space.leafColumns();
    const others = loadSync().allocateColumns(8);
    expect(() => listing.fill(others)).toThrow(ConfigError);
    const gone = core.allocateColumns(8);
    gone.dispose();
    expect(() => listing.fill(gone)).toThrow(ConfigError);
    expect(() => gone.pages).toThrow(ConfigError);
    const columns = core.allocateColumns(rows.length);
    expect(listing.fill(columns)).toBe(rows.length);
    expect(BigInt(columns.vaPage[0]!) << 12n).toBe(rows[0]![0]);
    columns.dispose();
  });

  it("are not written when the source disposes of them", () => {
    let dispose = () => {};
    const { core: own, space, asked } = lazyMachine(2, () => dispose());
    for (const gfn of [1n, 2n, 3n, 16n, 17n]) asked.add(gfn);
    const columns = own.allocateColumns(2048);
    dispose = () => columns.dispose();
    expect(() => space.leafColumns().fill(columns)).toThrow(ConfigError);
  });

  it("end with the space, its mode and its memory, as leaves do", () => {
    const columns = core.allocateColumns(8);
    const space = longSpace(1);
    const [first, second] = [space.leafColumns(), space.leafColumns()];
    expect([first.fill(columns), second.fill(columns)]).toEqual([8, 8]);
    space.update({ cr0: 0x10001, efer: 0 });
    expect(() => first.fill(columns)).toThrow("the mode became");
    expect(first.fill(columns)).toBe(0);
    space.dispose();
    expect(() => second.fill(columns)).toThrow(DisposedError);
    expect(second.fill(columns)).toBe(0);
    expect(() => space.leafColumns()).toThrow(DisposedError);
    columns.dispose();
  });

  it("are not for two stages", () => {
    const secondStage = eptSpace();
    const { memory } = secondStage;
    const nested = core.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0, cr4: 0x20, efer: 0xd00, secondStage });
    expect(() => nested.leafColumns()).toThrow(UnsupportedError);
  });
});
