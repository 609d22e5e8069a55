/** Rows of a listing of every space: what several have in common is one row, with the spaces that it is in. */
import type { Leaf, Rights } from "../api.js";
import type { FoundSpace } from "../dump/node.js";
import { type Owned, overlaps } from "../maps/overlaps.js";
import type { MapsRow } from "../maps/rows.js";
import { type EachSpace, partsOfSpaces, placeOf } from "./each-space.js";
import { CliError } from "./errors.js";
import { mergedRows, type RowSource, rangeRows } from "./maps-rows.js";

/** Ranges of users' parts beyond this many are refused: all of them are compared. */
const MOST_RANGES = 2 ** 19;

/** What is listed of every space. */
export interface EverySpaceListing {
  readonly each: EachSpace;
  readonly source: Omit<RowSource, "mode" | "region">;
  /** What names the addresses of a space's kernel part. */
  regions(space: FoundSpace): RowSource["region"];
  wanted(leaf: Leaf): boolean;
  /** Rows of equal rights, as `mergedRows` makes them. */
  readonly merge: boolean;
}

/**
 * The users' parts by ascending address, then the kernels' parts, each once. Throws a CliError for more ranges than can be compared.
 */
export function* everySpaceRows(listing: EverySpaceListing): IterableIterator<MapsRow> {
  yield* userRows(listing);
  const { each, source, regions, merge, wanted } = listing;
  for (const part of partsOfSpaces(each)) {
    if (!part.isKernelPart) continue;
    const places = [placeOf(part)];
    const { mode } = part.space;
    const rows = rangeRows(filtered(part.leaves, wanted), { ...source, mode, region: regions(part.space) });
    for (const row of merge ? mergedRows(rows) : rows) yield { ...row, places };
  }
}

/** Ranges with these in common, where they are the same page by page, are at the same distance from physical memory. */
interface Alike {
  readonly row: MapsRow;
  readonly distance: bigint;
  readonly ranges: Owned<undefined>[];
}

function userRows({ each, source, wanted, merge }: EverySpaceListing): MapsRow[] {
  const alike = new Map<string, Alike>();
  let ranges = 0;
  for (const part of partsOfSpaces(each)) {
    if (part.isKernelPart) continue;
    const owner = each.spaces.indexOf(part.space);
    const { mode } = part.space;
    for (const row of rangeRows(filtered(part.leaves, wanted), { ...source, mode, region: () => undefined })) {
      if (ranges++ === MOST_RANGES) {
        throw new CliError(
          `${each.dump.name}: expected at most ${MOST_RANGES} ranges of users, found more (filters and --range say which)`,
        );
      }
      const { pa, pageSize } = row.physical!;
      const distance = row.va - pa;
      const key = [distance, pageSize, rightsKey(row.rights), ...row.attributes].join(" ");
      let group = alike.get(key);
      if (group === undefined) {
        group = { row, distance, ranges: [] };
        alike.set(key, group);
      }
      group.ranges.push({ start: row.va, end: row.va + row.size, owner, value: undefined });
    }
  }
  const rows = [...alike.values()].flatMap((group) => [...rowsOf(group, each, source)]);
  return (merge ? mergedByPlaces(rows) : rows).sort(byAddress);
}

function* rowsOf(
  { row, distance, ranges }: Alike,
  { spaces }: EachSpace,
  { presence }: EverySpaceListing["source"],
): IterableIterator<MapsRow> {
  const { pageSize } = row.physical!;
  for (const { start, end, ranges: those } of overlaps(ranges, 1, spaces.length)) {
    const size = end - start;
    const pa = start - distance;
    const found = presence(pa, size);
    yield {
      ...row,
      va: start,
      size,
      pages: Number(size / pageSize),
      physical: { pa, pageSize },
      lacking: new Map(found === "held" ? [] : [[found, size]]),
      places: those.map(({ owner }) => placeOf({ space: spaces[owner]!, isKernelPart: false })).sort(),
    };
  }
}

/** Rows are merged with those of the same spaces. */
function mergedByPlaces(rows: readonly MapsRow[]): MapsRow[] {
  const groups = new Map<string, MapsRow[]>();
  for (const row of rows) {
    const key = row.places!.join(" ");
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return [...groups.values()].flatMap((group) => [...mergedRows(group.sort(byAddress))]);
}

function* filtered(leaves: Iterable<Leaf>, wanted: (leaf: Leaf) => boolean): Iterable<Leaf> {
  for (const leaf of leaves) if (wanted(leaf)) yield leaf;
}

function rightsKey({ user, write, execute }: Rights): string {
  return [user, write, execute].map(Number).join("");
}

function byAddress(a: MapsRow, b: MapsRow): number {
  if (a.va !== b.va) return a.va < b.va ? -1 : 1;
  return (a.places?.join() ?? "") < (b.places?.join() ?? "") ? -1 : 1;
}
