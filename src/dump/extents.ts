/** Which bytes of the file hold which guest-physical addresses. */
import type { PageSource } from "../api.js";
import { type ByteSource, readFully } from "./byte-source.js";
import { type ExtentList, NumberList, ZERO } from "./extent-list.js";

const PAGE = 4096;

/** A range of guest-physical memory that a dump holds. */
export interface MemoryRange {
  readonly gpa: bigint;
  readonly size: bigint;
}

/**
 * Guest-physical memory assembled from extents: sorted, without overlaps, looked up by binary search.
 *
 * Where extents overlap, bytes of the file win over declared zeros, and among those the extent that comes first wins.
 * This is how `crash` reads ELF cores (it takes the first program header that contains the address), and QEMU's own
 * overlapping segments (dumps with paging=true have one per linear mapping) name the same file bytes, so that order
 * does not matter there.
 */
export class ExtentMap implements PageSource {
  readonly #source: ByteSource;
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #offsets: Float64Array;
  /** True if some extents overlapped. */
  readonly overlapping: boolean;
  /** Bytes that the dump holds, and the number of `ranges()`. */
  readonly bytes: number;
  readonly rangeCount: number;

  constructor(source: ByteSource, extents: ExtentList) {
    this.#source = source;
    const pieces = withoutOverlaps(extents);
    this.overlapping = pieces.overlapping;
    this.#starts = pieces.starts.toArray();
    this.#ends = pieces.ends.toArray();
    this.#offsets = pieces.offsets.toArray();
    let bytes = 0;
    let ranges = 0;
    for (let i = 0; i < this.#starts.length; i++) {
      bytes += this.#ends[i]! - this.#starts[i]!;
      if (i === 0 || this.#starts[i] !== this.#ends[i - 1]) ranges++;
    }
    this.bytes = bytes;
    this.rangeCount = ranges;
  }

  /** Number of pieces after overlaps are resolved and neighbours are merged. */
  get pieces(): number {
    return this.#starts.length;
  }

  /** What the dump holds, in ascending order, touching pieces merged. */
  ranges(): MemoryRange[] {
    const ranges: MemoryRange[] = [];
    let start = 0;
    let end = -1;
    for (let i = 0; i < this.#starts.length; i++) {
      if (this.#starts[i] === end) {
        end = this.#ends[i]!;
        continue;
      }
      if (end >= 0) ranges.push({ gpa: BigInt(start), size: BigInt(end - start) });
      start = this.#starts[i]!;
      end = this.#ends[i]!;
    }
    if (end >= 0) ranges.push({ gpa: BigInt(start), size: BigInt(end - start) });
    return ranges;
  }

  /** True if the dump holds at least one byte of [gpa, gpa + size). */
  touches(gpa: bigint, size: bigint): boolean {
    const first = this.#firstEndingAfter(Number(gpa));
    return first < this.#starts.length && this.#starts[first]! < Number(gpa + size);
  }

  /**
   * Reads the page at `gfn`. A page may be assembled from several extents, and bytes that no extent holds
   * (a range that ends inside a page, as firmware memory maps have them) read as zero;
   * returns false only where there is not a single byte of the page.
   * Throws a DumpError where the file does not have its bytes any more.
   */
  readPage(gfn: bigint, into: Uint8Array): boolean {
    if (gfn >= 1n << 40n || gfn < 0n) return false;
    const pageStart = Number(gfn) * PAGE;
    const pageEnd = pageStart + PAGE;
    let piece = this.#firstEndingAfter(pageStart);
    if (piece === this.#starts.length || this.#starts[piece]! >= pageEnd) return false;
    if (this.#starts[piece]! > pageStart || this.#ends[piece]! < pageEnd) into.fill(0, 0, PAGE);
    for (; piece < this.#starts.length && this.#starts[piece]! < pageEnd; piece++) {
      const from = Math.max(pageStart, this.#starts[piece]!);
      const to = Math.min(pageEnd, this.#ends[piece]!);
      const part = into.subarray(from - pageStart, to - pageStart);
      const offset = this.#offsets[piece]!;
      if (offset === ZERO) part.fill(0);
      else readFully(this.#source, offset + (from - this.#starts[piece]!), part, `memory at 0x${from.toString(16)}`);
    }
    return true;
  }

  /** Index of the first piece that ends after `gpa`. */
  #firstEndingAfter(gpa: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! > gpa) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

interface Pieces {
  readonly starts: NumberList;
  readonly ends: NumberList;
  readonly offsets: NumberList;
  overlapping: boolean;
}

/**
 * Cuts extents into pieces that do not overlap, by a sweep over ascending addresses: at each address the winner is
 * the extent of the lowest rank among those that cover it (kept in a heap). O(n log n) for n extents.
 */
function withoutOverlaps(extents: ExtentList): Pieces {
  const rank = (index: number) => (extents.offset(index) === ZERO ? index + extents.length : index);
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
    append(pieces, at, end, offset === ZERO ? ZERO : offset + (at - extents.gpa(winner)));
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
      offset === ZERO ? lastOffset === ZERO : lastOffset !== ZERO && lastOffset + (start - starts.get(last)) === offset;
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
