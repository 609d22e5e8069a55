/** What differs between two listings: mappings that are in one only, and those that are not the same in both. */
import type { Leaf } from "../api.js";
import { sameRights } from "../runs.js";

/** What maps an address in one of the listings. */
export interface MappedAs {
  /** Where the first byte of the range lies. */
  readonly pa: bigint;
  /** The leaf that maps it. */
  readonly leaf: Leaf;
}

/** A range of virtual addresses that differs throughout: `a` and `b` say how each has it, undefined where one does not. */
export interface MappingDifference {
  readonly va: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly a: MappedAs | undefined;
  readonly b: MappedAs | undefined;
}

/** How a mapping that both have was changed. */
export type MappingChange = "target" | "rights" | "page size" | "entry";

/** Whether two leaves are the same in what the caller asks for besides target, rights and page size. */
export type SameEntry = (a: Leaf, b: Leaf) => boolean;

/**
 * The differences between two listings that ascend by address; ranges that differ in the same way and follow each other in both
 * memories are one. Holds one leaf of each listing and one range.
 */
export function* mappingDifferences(
  a: Iterable<Leaf>,
  b: Iterable<Leaf>,
  same: SameEntry = () => true,
): IterableIterator<MappingDifference> {
  let range: MappingDifference | undefined;
  for (const next of pieces(a, b)) {
    if (next.a !== undefined && next.b !== undefined && changesOf(next, same).length === 0) continue;
    if (range !== undefined && follows(range, next, same)) range = { ...range, size: range.size + next.size };
    else {
      if (range !== undefined) yield range;
      range = next;
    }
  }
  if (range !== undefined) yield range;
}

/** In what the two sides of a difference are not the same; nothing where one side is missing. */
export function changesOf({ a, b }: MappingDifference, same: SameEntry = () => true): MappingChange[] {
  if (a === undefined || b === undefined) return [];
  return [
    ...(a.pa === b.pa ? [] : ["target" as const]),
    ...(sameRights(a.leaf.rights, b.leaf.rights) ? [] : ["rights" as const]),
    ...(a.leaf.size === b.leaf.size ? [] : ["page size" as const]),
    ...(same(a.leaf, b.leaf) ? [] : ["entry" as const]),
  ];
}

/** Both listings, cut where a mapping of either begins or ends. */
function* pieces(a: Iterable<Leaf>, b: Iterable<Leaf>): IterableIterator<MappingDifference> {
  const [left, right] = [new Cursor(a), new Cursor(b)];
  for (;;) {
    const [one, other] = [left.at, right.at];
    if (one === undefined && other === undefined) return;
    const va = one === undefined || (other !== undefined && other < one) ? other! : one;
    const ends = [left, right]
      .map((cursor) => (cursor.at === va ? cursor.end! : cursor.at))
      .filter((end) => end !== undefined);
    const end = ends.reduce((least, next) => (next < least ? next : least));
    yield { va, size: end - va, a: left.mapping(va), b: right.mapping(va) };
    left.pass(end);
    right.pass(end);
  }
}

/** A listing, and how far it has been gone through. */
class Cursor {
  readonly #leaves: Iterator<Leaf>;
  #leaf: Leaf | undefined;
  /** The first address that is not passed yet and is mapped; undefined behind the last. */
  at: bigint | undefined;

  constructor(leaves: Iterable<Leaf>) {
    this.#leaves = leaves[Symbol.iterator]();
    this.#next();
  }

  get end(): bigint | undefined {
    return this.#leaf && this.#leaf.va + this.#leaf.size;
  }

  mapping(va: bigint): MappedAs | undefined {
    const leaf = this.#leaf;
    return leaf === undefined || this.at !== va ? undefined : { pa: leaf.pa + (va - leaf.va), leaf };
  }

  pass(to: bigint): void {
    if (this.at === undefined || this.at >= to) return;
    if (to < this.end!) this.at = to;
    else this.#next();
  }

  #next(): void {
    const { done, value } = this.#leaves.next();
    this.#leaf = done ? undefined : value;
    this.at = this.#leaf?.va;
  }
}

function follows(range: MappingDifference, next: MappingDifference, same: SameEntry): boolean {
  return (
    next.va === range.va + range.size &&
    sideFollows(range.a, next.a, range.size, same) &&
    sideFollows(range.b, next.b, range.size, same)
  );
}

function sideFollows(first: MappedAs | undefined, next: MappedAs | undefined, size: bigint, same: SameEntry): boolean {
  if (first === undefined || next === undefined) return first === next;
  return (
    next.pa === first.pa + size &&
    next.leaf.size === first.leaf.size &&
    sameRights(next.leaf.rights, first.leaf.rights) &&
    same(first.leaf, next.leaf)
  );
}
