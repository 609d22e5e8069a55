/** Rows as JSON lines: what JSON.stringify makes of the same members, in their order. */
import { expect, it } from "vitest";
import type { LeafAttribute } from "../../src/maps/attributes.js";
import { type MapsRow, mapsJsonLine } from "../../src/maps/index.js";

const RIGHTS = { read: true, write: false, user: true, execute: true, userExecute: true };
const PHYSICAL = { pa: 0xf_ffff_ffff_f000n, pageSize: 0x1000n };
const row = (odd: Partial<MapsRow>): MapsRow => ({
  va: 0xffff_8000_0000_1000n,
  size: 0x3000n,
  rights: RIGHTS,
  pages: 3,
  physical: PHYSICAL,
  entry: undefined,
  lacking: new Map(),
  attributes: [],
  region: undefined,
  ...odd,
});
const BEGIN = { version: 1, va: "0xffff800000001000", size: 12288 };
const PA = "0xffffffffff000";
const ALLOWED = { user: true, writable: false, executable: true };
const HELD = { absent: false, presence: "held" };

const CASES: readonly (readonly [string, MapsRow, readonly LeafAttribute[], object])[] = [
  ["of a range", row({}), [], { ...BEGIN, pageSize: 4096, pa: PA, ...ALLOWED, ...HELD }],
  [
    "of a page",
    row({ entry: 0x8000_0000_0000_0067n }),
    [],
    { ...BEGIN, pa: PA, entry: "0x8000000000000067", ...ALLOWED, ...HELD },
  ],
  [
    "of what is not in the dump",
    row({ lacking: new Map([["excluded", 0x3000n]]) }),
    [],
    { ...BEGIN, pageSize: 4096, pa: PA, ...ALLOWED, absent: true, presence: "excluded" },
  ],
  [
    "of a range by address and rights alone",
    row({
      physical: undefined,
      lacking: new Map([
        ["cut", 0x1000n],
        ["absent", 0x1000n],
      ]),
    }),
    [],
    { ...BEGIN, pages: 3, ...ALLOWED, absentBytes: 8192 },
  ],
  [
    "of all memory",
    row({ size: 1n << 64n }),
    [],
    { ...BEGIN, size: 2 ** 64, pageSize: 4096, pa: PA, ...ALLOWED, ...HELD },
  ],
  [
    "with attributes, one of them twice",
    row({ attributes: [1, 7, 1] }),
    ["g", "pat", "g"],
    { ...BEGIN, pageSize: 4096, pa: PA, ...ALLOWED, ...HELD, g: 1, pat: 7 },
  ],
  [
    "with names that need escaping",
    row({ region: 'a "name"\n\u2028', places: ["0x1000", "\\"] }),
    [],
    { ...BEGIN, pageSize: 4096, pa: PA, ...ALLOWED, ...HELD, region: 'a "name"\n\u2028', spaces: ["0x1000", "\\"] },
  ],
];

it.each(CASES)("is the line %s", (_, one, attributes, expected) => {
  expect(mapsJsonLine(one, attributes)).toBe(JSON.stringify(expected));
});
