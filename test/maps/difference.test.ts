/** What differs between two listings. */
import { describe, expect, it } from "vitest";
import type { Leaf } from "../../src/api.js";
import { changesOf, mappingDifferences } from "../../src/maps/index.js";

const RIGHTS = { read: true, write: true, user: true, execute: true, userExecute: true };
const READ_ONLY = { ...RIGHTS, write: false };
const PAGE = 4096;
const leaf = (page: number, frame: number, fields: Partial<Leaf> = {}): Leaf => ({
  va: BigInt(page * PAGE),
  pa: BigInt(frame * PAGE),
  size: 4096n,
  rights: RIGHTS,
  entry: 7n,
  level: 1,
  ...fields,
});
const large = (page: number, frame: number, fields: Partial<Leaf> = {}) =>
  leaf(page, frame, { size: 0x20_0000n, level: 2, ...fields });

const found = (a: Leaf[], b: Leaf[], same?: (one: Leaf, other: Leaf) => boolean) =>
  [...mappingDifferences(a, b, same)].map((difference) => {
    const side = (mapped: typeof difference.a) => (mapped === undefined ? undefined : Number(mapped.pa) / PAGE);
    const { va, size } = difference;
    return [
      Number(va) / PAGE,
      Number(size) / PAGE,
      side(difference.a),
      side(difference.b),
      changesOf(difference, same),
    ];
  });

describe("differences", () => {
  it.each<[string, Leaf[], Leaf[], unknown[]]>([
    ["none", [leaf(0, 5), leaf(1, 6)], [leaf(0, 5), leaf(1, 6)], []],
    ["nothing on either side", [], [], []],
    ["added, as one range", [leaf(0, 5)], [leaf(0, 5), leaf(1, 6), leaf(2, 7)], [[1, 2, undefined, 6, []]]],
    ["gone", [leaf(0, 5), leaf(9, 6)], [leaf(9, 6)], [[0, 1, 5, undefined, []]]],
    [
      "gone in two ranges, which lie apart",
      [leaf(0, 5), leaf(1, 9)],
      [],
      [
        [0, 1, 5, undefined, []],
        [1, 1, 9, undefined, []],
      ],
    ],
    ["another target", [leaf(0, 5)], [leaf(0, 6)], [[0, 1, 5, 6, ["target"]]]],
    ["other rights", [leaf(0, 5)], [leaf(0, 5, { rights: READ_ONLY })], [[0, 1, 5, 5, ["rights"]]]],
    [
      "two ranges of other rights, one of which had others before",
      [leaf(0, 5), leaf(1, 6, { rights: READ_ONLY })],
      [leaf(0, 5, { rights: { ...RIGHTS, user: false } }), leaf(1, 6, { rights: { ...RIGHTS, user: false } })],
      [
        [0, 1, 5, 5, ["rights"]],
        [1, 1, 6, 6, ["rights"]],
      ],
    ],
    [
      "other page sizes",
      [leaf(0, 0)],
      [large(0, 0)],
      [
        [0, 1, 0, 0, ["page size"]],
        [1, 511, undefined, 1, []],
      ],
    ],
    [
      "a large page that begins before",
      [large(0, 512)],
      [leaf(510, 1022), leaf(511, 3), leaf(512, 4)],
      [
        [0, 510, 512, undefined, []],
        [510, 1, 1022, 1022, ["page size"]],
        [511, 1, 1023, 3, ["target", "page size"]],
        [512, 1, undefined, 4, []],
      ],
    ],
    ["what only looks changed", [leaf(0, 5)], [leaf(0, 5, { entry: 0x67n })], []],
  ])("%s", (_, a, b, expected) => {
    expect(found(a, b)).toEqual(expected);
  });

  it("also in what the caller compares", () => {
    const [a, b] = [
      [leaf(0, 5), leaf(1, 6)],
      [leaf(0, 5, { entry: 0x67n }), leaf(1, 6, { entry: 0x87n })],
    ];
    const same = (one: Leaf, other: Leaf) => one.entry === other.entry;
    expect(found(a, b, same)).toEqual([
      [0, 1, 5, 5, ["entry"]],
      [1, 1, 6, 6, ["entry"]],
    ]);
  });

  it("are what a look at every page finds", () => {
    let state = 3;
    const random = (below: number) => {
      state = (state * 1103515245 + 12345) & 0x7fffffff;
      return (state >> 8) % below;
    };
    for (let round = 0; round < 300; round++) {
      const sides = [0, 1].map(() => {
        const leaves: Leaf[] = [];
        for (let page = random(3); page < 24; ) {
          const pages = [1, 1, 1, 4][random(4)]!;
          const rights = random(4) === 0 ? READ_ONLY : RIGHTS;
          leaves.push(leaf(page, page + 2 * random(2), { size: BigInt(pages * PAGE), rights }));
          page += pages + random(2);
        }
        return leaves;
      });
      const mapped = (leaves: Leaf[], page: number) => {
        const one = leaves.find(({ va, size }) => va <= page * PAGE && page * PAGE < va + size);
        return one && `${one.pa + BigInt(page * PAGE) - one.va} ${one.size} ${one.rights.write}`;
      };
      const expected = Array.from({ length: 40 }, (_, page) => {
        const [a, b] = sides.map((leaves) => mapped(leaves, page));
        return a === b ? undefined : [a, b];
      });
      const actual: typeof expected = Array.from({ length: 40 });
      let last = 0n;
      for (const { va, size, a, b } of mappingDifferences(sides[0]!, sides[1]!)) {
        expect(va).toBeGreaterThanOrEqual(last);
        last = va + size;
        for (let page = Number(va) / PAGE; page < Number(last) / PAGE; page++) {
          const text = (side: typeof a) =>
            side && `${side.pa + BigInt(page * PAGE) - va} ${side.leaf.size} ${side.leaf.rights.write}`;
          actual[page] = [text(a), text(b)];
        }
      }
      expect(actual).toEqual(expected);
    }
  });
});
