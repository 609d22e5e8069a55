/** Rows of listings of mappings: what is in a row, whatever it is written as. */
import type { Leaf, PagingMode } from "../api.js";
import type { Presence } from "../dump/node.js";
import { type LeafAttribute, leafAttribute } from "../maps/attributes.js";
import type { MapsRow } from "../maps/rows.js";
import { type Alike, type Span, spansOf } from "../maps/spans.js";
import { sameRights } from "../runs.js";

/** What rows are made from. */
export interface RowSource {
  readonly mode: PagingMode;
  readonly attributes: readonly LeafAttribute[];
  presence(gpa: bigint, size: bigint): Presence;
  /** The name of the region that an address is in. */
  region(va: bigint): string | undefined;
}

/** Ranges that are contiguous in both memories, and equal in all that is shown. */
export function* rangeRows(leaves: Iterable<Leaf>, source: RowSource): IterableIterator<MapsRow> {
  for (const span of spansOf(leaves, alike(source))) yield rowOf(span, source);
}

/** Ranges of equal rights, wherever they lie and whatever the size of their pages: rows that follow each other, as one. */
export function* mergedRows(rows: Iterable<MapsRow>): IterableIterator<MapsRow> {
  let merged: MapsRow | undefined;
  for (const row of rows) {
    if (merged !== undefined && goesOn(merged, row)) {
      const lacking = new Map(merged.lacking);
      for (const [why, bytes] of row.lacking) lacking.set(why, (lacking.get(why) ?? 0n) + bytes);
      merged = { ...merged, size: merged.size + row.size, pages: merged.pages + row.pages, lacking };
      continue;
    }
    if (merged !== undefined) yield merged;
    merged = { ...row, physical: undefined, entry: undefined };
  }
  if (merged !== undefined) yield merged;
}

function goesOn(before: MapsRow, row: MapsRow): boolean {
  return (
    row.va === before.va + before.size &&
    sameRights(row.rights, before.rights) &&
    row.region === before.region &&
    row.attributes.every((value, index) => value === before.attributes[index])
  );
}

/** A row for each page. */
export function* leafRows(leaves: Iterable<Leaf>, source: RowSource): IterableIterator<MapsRow> {
  for (const leaf of leaves) yield { ...rowOf({ first: leaf, size: leaf.size, pages: 1 }, source), entry: leaf.entry };
}

function alike({ attributes, mode, region }: RowSource): Alike {
  return (first, next) =>
    region(first.va) === region(next.va) &&
    attributes.every((name) => leafAttribute(first, name, mode) === leafAttribute(next, name, mode));
}

function rowOf({ first, size, pages }: Span, { attributes, mode, region, presence }: RowSource): MapsRow {
  const found = presence(first.pa, size);
  return {
    va: first.va,
    size,
    rights: first.rights,
    pages,
    physical: { pa: first.pa, pageSize: first.size },
    entry: undefined,
    lacking: found === "held" ? NONE : new Map([[found, size]]),
    attributes: attributes.map((name) => leafAttribute(first, name, mode)),
    region: region(first.va),
  };
}

const NONE: MapsRow["lacking"] = new Map();
