/** Who has what in common: ranges of several owners, cut where the owners change. */

/** A range of one owner. */
export interface Owned<T> {
  readonly start: bigint;
  /** The first address behind it. */
  readonly end: bigint;
  /** Which owner, by number. */
  readonly owner: number;
  readonly value: T;
}

/** A range in which nothing changes: every range in `ranges` has all of it. */
export interface Overlap<T> {
  readonly start: bigint;
  readonly end: bigint;
  /** Number of different owners. */
  readonly owners: number;
  /** The ranges that have it, the first of them only. */
  readonly ranges: readonly Owned<T>[];
  /** How many others there are. */
  readonly more: number;
}

/**
 * The parts of `ranges` that at least so many different owners have, ascending, each with the first `most` ranges that have it. Takes
 * time by the number of ranges, not by the number of pairs that overlap.
 */
export function* overlaps<T>(ranges: readonly Owned<T>[], least: number, most: number): IterableIterator<Overlap<T>> {
  const starts = [...ranges].sort((a, b) => compare(a.start, b.start));
  const ends = [...ranges].sort((a, b) => compare(a.end, b.end));
  const active = new Set<Owned<T>>();
  const counts = new Map<number, number>();
  let [started, ended] = [0, 0];
  while (ended < ends.length) {
    const next = starts[started]?.start;
    const at = next !== undefined && next < ends[ended]!.end ? next : ends[ended]!.end;
    for (; ended < ends.length && ends[ended]!.end === at; ended++) {
      const { owner } = ends[ended]!;
      active.delete(ends[ended]!);
      const left = counts.get(owner)! - 1;
      if (left === 0) counts.delete(owner);
      else counts.set(owner, left);
    }
    for (; started < starts.length && starts[started]!.start === at; started++) {
      const { owner } = starts[started]!;
      active.add(starts[started]!);
      counts.set(owner, (counts.get(owner) ?? 0) + 1);
    }
    if (active.size === 0 || counts.size < least) continue;
    const following = starts[started]?.start;
    const first = ends[ended]!.end;
    const end = following !== undefined && following < first ? following : first;
    yield { start: at, end, owners: counts.size, ranges: firstOf(active, most), more: Math.max(0, active.size - most) };
  }
}

function firstOf<T>(all: Iterable<T>, most: number): T[] {
  const first: T[] = [];
  for (const one of all) {
    if (first.length === most) break;
    first.push(one);
  }
  return first;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
