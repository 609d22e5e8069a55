/** Cuts extents that overlap into pieces that do not. */
import { type ExtentList, NumberList } from "./extent-list.js";

/** Pieces in ascending order, as columns. */
export interface Pieces {
  readonly starts: NumberList;
  readonly ends: NumberList;
  readonly offsets: NumberList;
  overlapping: boolean;
}

/**
 * Cuts extents into pieces that do not overlap, by a sweep over ascending addresses: at each address the winner is
 * the extent of the lowest rank among those that cover it (kept in a heap). O(n log n) for n extents.
 */
export function withoutOverlaps(extents: ExtentList): Pieces {
  // Bytes of the file come first, then zeros, what was left out, and what is cut off.
  const rank = (index: number) => index - Math.min(0, extents.offset(index)) * extents.length;
  const order = Uint32Array.from({ length: extents.length }, (_, index) => index);
  order.sort((a, b) => extents.gpa(a) - extents.gpa(b));
  const pieces: Pieces = {
    starts: new NumberList(),
    ends: new NumberList(),
    offsets: new NumberList(),
    overlapping: false,
  };
  const active = new RankHeap(rank);
  let at = 0;
  let next = 0;
  while (next < order.length || active.top !== undefined) {
    while (active.top !== undefined && extents.end(active.top) <= at) active.pop();
    if (active.top === undefined) {
      if (next === order.length) break;
      at = extents.gpa(order[next]!);
    }
    while (next < order.length && extents.gpa(order[next]!) <= at) {
      if (active.top !== undefined) pieces.overlapping = true;
      active.push(order[next++]!);
      while (active.top !== undefined && extents.end(active.top) <= at) active.pop();
    }
    if (active.top === undefined) continue;
    const winner = active.top;
    const nextStart = next < order.length ? extents.gpa(order[next]!) : Number.POSITIVE_INFINITY;
    const end = Math.min(extents.end(winner), nextStart);
    const offset = extents.offset(winner);
    append(pieces, at, end, offset < 0 ? offset : offset + (at - extents.gpa(winner)));
    at = end;
  }
  return pieces;
}

/** Adds a piece; one that continues the piece before it, in memory and in the file, is merged with it. */
function append({ starts, ends, offsets }: Pieces, start: number, end: number, offset: number): void {
  const last = starts.length - 1;
  if (last >= 0 && ends.get(last) === start) {
    const lastOffset = offsets.get(last);
    const continues =
      offset < 0 ? lastOffset === offset : lastOffset >= 0 && lastOffset + (start - starts.get(last)) === offset;
    if (continues) {
      ends.set(last, end);
      return;
    }
  }
  starts.push(start);
  ends.push(end);
  offsets.push(offset);
}

/** A binary heap of extent indices, lowest rank on top. */
class RankHeap {
  readonly #rank: (index: number) => number;
  readonly #items: number[] = [];

  constructor(rank: (index: number) => number) {
    this.#rank = rank;
  }

  get top(): number | undefined {
    return this.#items[0];
  }

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#rank(items[parent]!) <= this.#rank(item)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): void {
    const items = this.#items;
    const item = items.pop();
    if (item === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && this.#rank(items[child + 1]!) < this.#rank(items[child]!)) child++;
      if (this.#rank(item) <= this.#rank(items[child]!)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
  }
}
