/** Listings over a source that throws, and goes on when it is asked again. */
import { expect, it } from "vitest";
import type { PageSource } from "../../src/api.js";
import { loadSync } from "../../src/core/index.js";
import { DisposedError } from "../../src/errors.js";
import { mergeRuns } from "../../src/runs.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
class NotYet extends Error {}

/** Eight page directories with four tables each, of which every other page is mapped. */
const TABLES = new Map<bigint, bigint[]>();
const table = (entries: bigint[]) => Array.from({ length: 512 }, (_, i) => entries[i] ?? 0n);
TABLES.set(1n, table([0x2067n]));
TABLES.set(2n, table(Array.from({ length: 8 }, (_, i) => (BigInt(16 + i) << 12n) | 0x67n)));
for (let i = 0; i < 8; i++) {
  TABLES.set(BigInt(16 + i), table(Array.from({ length: 4 }, (_, j) => (BigInt(32 + i * 4 + j) << 12n) | 0x67n)));
  for (let j = 0; j < 4; j++) {
    const leaves = Array.from({ length: 512 }, (_, k) => (k % 2 === 0 ? (BigInt(k) << 12n) | 0x67n : 0n));
    TABLES.set(BigInt(32 + i * 4 + j), leaves);
  }
}

/** A source that throws the first time that it is asked for a page; `asked` counts. */
function machine(core = loadSync(), lazy = true) {
  const asked = new Map<bigint, number>();
  const source: PageSource = {
    readPage(gfn, into) {
      const times = (asked.get(gfn) ?? 0) + 1;
      asked.set(gfn, times);
      if (lazy && times % 2 === 1) throw new NotYet();
      new BigUint64Array(into.buffer).set(TABLES.get(gfn) ?? []);
      return TABLES.has(gfn);
    },
  };
  const memory = core.createMemory({ source });
  const { linear } = core.internals();
  return { core, memory, linear, asked, space: core.createAddressSpace(memory, LONG) };
}

/** All elements, by asking again after each NotYet; and how often that was. */
function collect<T>(listing: Iterator<T>): { all: T[]; thrown: number } {
  const all: T[] = [];
  let thrown = 0;
  for (;;) {
    try {
      const { done, value } = listing.next();
      if (done) return { all, thrown };
      all.push(value);
    } catch (error) {
      if (!(error instanceof NotYet)) throw error;
      thrown++;
    }
  }
}

it.each(["leaves", "mappings"] as const)("%s() go on where the source threw, having read each page once", (what) => {
  const expected = [...machine(loadSync(), false).space[what]()];
  const { space, asked } = machine();
  const { all, thrown } = collect<unknown>(space[what]());
  expect(all).toEqual(expected);
  expect(all).toHaveLength(32 * 256);
  expect(thrown).toBe(TABLES.size);
  expect([...asked.values()]).toEqual(Array.from(TABLES, () => 2));
});

it("merges leaves of a listing that goes on", () => {
  const expected = [...mergeRuns(machine(loadSync(), false).space.leaves())];
  expect(collect(mergeRuns(machine().space.leaves())).all).toEqual(expected);
});

it("keeps nothing of the linear memory while it waits, or when it ends early", () => {
  const { space, linear } = machine();
  const free = linear.freeBytes;
  const waiting = space.leaves();
  expect(() => waiting.next()).toThrow(NotYet);
  expect(linear.freeBytes).toBe(free);
  collect(waiting);
  // Every page is there by now.
  const left = linear.freeBytes;
  const early = space.leaves();
  expect(early.next().done).toBe(false);
  expect(linear.freeBytes).toBeLessThan(left);
  early.return!();
  expect(linear.freeBytes).toBe(left);
  expect(early.next()).toEqual({ done: true, value: undefined });
  const merged = space.mappings();
  merged.next();
  merged.return!();
  expect(linear.freeBytes).toBe(left);
});

it("ends with anything else that is thrown", () => {
  const { space, memory } = machine();
  const listing = space.leaves();
  expect(() => listing.next()).toThrow(NotYet);
  space.dispose();
  expect(() => listing.next()).toThrow(DisposedError);
  memory.dispose();
  const other = machine(loadSync(), false);
  const changing = other.space.leaves();
  changing.next();
  other.space.update({ cr0: 0x10001, efer: 0 });
  expect(() => changing.next()).toThrow("the mode became");
  expect(changing.next().done).toBe(true);
});
