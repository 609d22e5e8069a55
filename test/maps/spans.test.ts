/** Mappings that follow each other, as one; attributes of leaves; what several owners have in common. */
import { describe, expect, it } from "vitest";
import type { Leaf, PagingMode } from "../../src/api.js";
import { LEAF_ATTRIBUTES, leafAttribute, type Owned, overlaps, spansOf } from "../../src/maps/index.js";

const RIGHTS = { read: true, write: true, user: true, execute: true, userExecute: true };
const leaf = (va: number, pa: number, fields: Partial<Leaf> = {}): Leaf => ({
  va: BigInt(va),
  pa: BigInt(pa),
  size: 4096n,
  rights: RIGHTS,
  entry: 0x2007n,
  level: 1,
  ...fields,
});
const spans = (leaves: Leaf[], alike?: (a: Leaf, b: Leaf) => boolean) =>
  [...spansOf(leaves, alike)].map(({ first, size, pages }) => [Number(first.va), Number(size), pages]);

describe("spans", () => {
  it.each<[string, Leaf[], number[][]]>([
    ["none", [], []],
    ["follow in both memories", [leaf(0, 0x5000), leaf(0x1000, 0x6000)], [[0, 0x2000, 2]]],
    [
      "end at a hole",
      [leaf(0, 0x5000), leaf(0x2000, 0x6000)],
      [
        [0, 4096, 1],
        [0x2000, 4096, 1],
      ],
    ],
    [
      "end where physical memory does",
      [leaf(0, 0x5000), leaf(0x1000, 0x7000)],
      [
        [0, 4096, 1],
        [0x1000, 4096, 1],
      ],
    ],
    [
      "end at other rights",
      [leaf(0, 0x5000), leaf(0x1000, 0x6000, { rights: { ...RIGHTS, write: false } })],
      [
        [0, 4096, 1],
        [0x1000, 4096, 1],
      ],
    ],
    [
      "end at another page size",
      [leaf(0, 0x1ff000), leaf(0x1000, 0x200000, { size: 0x200000n })],
      [
        [0, 4096, 1],
        [0x1000, 0x200000, 1],
      ],
    ],
  ])("%s", (_, leaves, expected) => {
    expect(spans(leaves)).toEqual(expected);
  });

  it("end where the caller says so", () => {
    const leaves = [leaf(0, 0, { entry: 1n }), leaf(0x1000, 0x1000, { entry: 1n }), leaf(0x2000, 0x2000)];
    expect(spans(leaves, (a, b) => a.entry === b.entry)).toEqual([
      [0, 0x2000, 2],
      [0x2000, 0x1000, 1],
    ]);
  });

  it("go on where the leaves were interrupted, and end where the caller ends", () => {
    let asked = 0;
    let ended = false;
    const source: IterableIterator<Leaf> = {
      [Symbol.iterator]() {
        return this;
      },
      next() {
        asked++;
        if (asked === 2) throw new Error("not yet");
        return asked > 4 ? { done: true, value: undefined } : { done: false, value: leaf(asked * 4096, asked * 4096) };
      },
      return() {
        ended = true;
        return { done: true, value: undefined };
      },
    };
    const all = spansOf(source);
    expect(() => all.next()).toThrow("not yet");
    expect(all.next().value).toMatchObject({ size: 4096n, pages: 1 });
    expect(all.next().value).toMatchObject({ size: 8192n, pages: 2 });
    all.return!();
    expect(ended).toBe(true);
    expect(all.next()).toEqual({ done: true, value: undefined });
  });
});

describe("attributes of a leaf", () => {
  const of = (entry: bigint, level: number, mode: PagingMode = "4level") =>
    Object.fromEntries(
      LEAF_ATTRIBUTES.map((name) => [name, leafAttribute({ ...leaf(0, 0), entry, level }, name, mode)]),
    );
  const NONE = { g: 0, pat: 0, a: 0, d: 0, pkey: 0 };

  it.each<[string, bigint, number, Partial<typeof NONE>]>([
    ["none", 0x7n, 1, {}],
    ["global", 1n << 8n, 1, { g: 1 }],
    ["accessed", 1n << 5n, 1, { a: 1 }],
    ["dirty", 1n << 6n, 1, { d: 1 }],
    ["PWT", 1n << 3n, 1, { pat: 1 }],
    ["PCD", 1n << 4n, 2, { pat: 2 }],
    ["PAT of a small page", 1n << 7n, 1, { pat: 4 }],
    ["PS and an address bit are no PAT", (1n << 7n) | (1n << 13n), 2, {}],
    ["PAT of a large page", 1n << 12n, 2, { pat: 4 }],
    ["PAT of a huge page", 1n << 12n, 3, { pat: 4 }],
    ["an address bit of a small page is no PAT", 1n << 12n, 1, {}],
    ["the key", 0xan << 59n, 1, { pkey: 10 }],
  ])("%s", (_, entry, level, expected) => {
    expect(of(entry, level)).toEqual({ ...NONE, ...expected });
  });

  it("has keys in 4- and 5-level paging alone", () => {
    expect(of(0xfn << 59n, 1, "5level").pkey).toBe(15);
    expect(of(0xfn << 59n, 1, "pae").pkey).toBe(0);
  });
});

describe("overlaps", () => {
  const owned = (start: number, end: number, owner: number): Owned<string> => ({
    start: BigInt(start),
    end: BigInt(end),
    owner,
    value: `${start} ${owner}`,
  });

  it("are what a look at every address finds", () => {
    let state = 1;
    const random = (below: number) => {
      state = (state * 1103515245 + 12345) & 0x7fffffff;
      return (state >> 8) % below;
    };
    for (let round = 0; round < 200; round++) {
      const ranges = Array.from({ length: random(9) }, () => {
        const start = random(20);
        return owned(start, start + 1 + random(8), random(4));
      });
      const least = 1 + random(3);
      const expected = Array.from({ length: 30 }, (_, at) => {
        const those = ranges.filter(({ start, end }) => start <= BigInt(at) && BigInt(at) < end);
        const owners = new Set(those.map(({ owner }) => owner)).size;
        return owners < least ? undefined : { owners, those: those.map(({ value }) => value).sort() };
      });
      const found: typeof expected = Array.from({ length: 30 });
      let last = -1n;
      for (const { start, end, owners, ranges: those, more } of overlaps(ranges, least, 100)) {
        expect(start >= last && end > start && more === 0).toBe(true);
        last = end;
        for (let at = start; at < end; at++) {
          found[Number(at)] = { owners, those: those.map(({ value }) => value).sort() };
        }
      }
      expect(found).toEqual(expected);
    }
  });

  it("have the first ranges only, and say how many there are", () => {
    const ranges = Array.from({ length: 10 }, (_, owner) => owned(0, 5, owner));
    expect([...overlaps(ranges, 2, 3)]).toMatchObject([{ owners: 10, ranges: { length: 3 }, more: 7 }]);
  });

  it("take no time by pairs", () => {
    const ranges = Array.from({ length: 100_000 }, (_, owner) => owned(owner, 200_000 - owner, owner));
    let parts = 0;
    for (const { more } of overlaps(ranges, 1, 2)) if (more >= 0) parts++;
    expect(parts).toBe(199_999);
  });
});
