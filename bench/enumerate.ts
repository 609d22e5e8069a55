/** Listing every mapping of a space with a million level-1 entries: the core's own enumeration, and what the host makes of it. */
import { build, type Shape } from "./machine.js";
import { attachNative, type Native } from "./native.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const TABLES = 2048;
const ENTRIES = TABLES * 512;
/** Of listings, where each page takes longer. */
const LISTED_TABLES = 256;
const LEAF_BYTES = 32;
/** Records that one call lists, as the host's own loop does. */
const BATCH = 1024;

const CASES: readonly (readonly [string, Omit<Shape, "tables" | "regions">])[] = [
  ["contiguous", {}],
  ["scattered, half present", { absent: 0.5 }],
  ["1 of 64 present", { everyNth: 64 }],
  ["1 of 512 present", { everyNth: 512 }],
];

const LISTED: typeof CASES = [
  ["contiguous", {}],
  ["scattered", { absent: 0.5, swapped: true }],
];

/** What callers get, by the core's own enumeration; of scattered pages no two are a run. */
export function measureListing(options: RoundOptions): Section[] {
  return LISTED.map(([title, shape]) => {
    const machine = build({ tables: LISTED_TABLES, regions: 1, ...shape });
    const { linear, exports } = machine.core.internals();
    const cursor = linear.allocate(256);
    const output = linear.allocate(BATCH * LEAF_BYTES, 64);
    const { space } = machine;
    const columns = machine.core.allocateColumns(BATCH);
    const list = () => {
      exports.startEnumeration(space.pointer, cursor);
      let count = 0;
      while (linear.u32[cursor / 4] !== 0) count += exports.enumerate(space.pointer, cursor, output, BATCH);
      return count;
    };
    const work = list();
    const all = (name: string, listing: () => Iterable<unknown>): Candidate => ({
      name,
      work,
      run: () => {
        let count = 0;
        for (const _ of listing()) count++;
        return count;
      },
    });
    const candidates: Candidate[] = [
      { name: "core", work, run: list },
      {
        name: "leafColumns()",
        work,
        run: () => {
          const listing = space.leafColumns();
          let count = 0;
          for (let filled = listing.fill(columns); filled > 0; filled = listing.fill(columns)) count += filled;
          return count;
        },
      },
      all("leaves()", () => space.leaves()),
      all("mappings()", () => space.mappings()),
    ];
    const results = compare(candidates, options);
    linear.free(output, BATCH * LEAF_BYTES);
    linear.free(cursor, 256);
    columns.dispose();
    machine.dispose();
    return { title: `Listing, ${title}`, unit: "mapping", results };
  });
}

export function measureEnumeration(native: Native | undefined, options: RoundOptions): Section[] {
  return CASES.map(([title, shape]) => {
    const machine = build({ tables: TABLES, regions: 1, ...shape });
    const { linear, exports } = machine.core.internals();
    const cursor = linear.allocate(256);
    const output = linear.allocate(BATCH * LEAF_BYTES, 64);
    const { pointer } = machine.space;
    const candidates: Candidate[] = [];
    if (native) {
      attachNative(native, machine);
      candidates.push({ name: "native C", work: ENTRIES, run: () => native.enumerate(output) });
    }
    const list = (capacity: number) => {
      exports.startEnumeration(pointer, cursor);
      let count = 0;
      while (linear.u32[cursor / 4] !== 0) count += exports.enumerate(pointer, cursor, output, capacity);
      return count;
    };
    if (native && list(BATCH) !== native.enumerate(output)) throw new Error(`${title}: the lists differ in length`);
    candidates.push({ name: "core", work: ENTRIES, run: () => list(BATCH) });
    const results = compare(candidates, options);
    linear.free(output, BATCH * LEAF_BYTES);
    linear.free(cursor, 256);
    machine.dispose();
    return { title: `Enumeration, ${title}`, unit: "level-1 entry", results };
  });
}
