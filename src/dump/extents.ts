/** Which bytes of the file hold which guest-physical addresses. */
import type { PageSource } from "../api.js";
import type { ByteSource } from "./byte-source.js";

const PAGE = 4096;

/** A part of guest-physical memory as a dump declares it; extents may overlap. */
export interface Extent {
  /** First guest-physical address in bytes, below 2^52. */
  readonly gpa: number;
  /** Size in bytes. */
  readonly size: number;
  /** Where its first byte is in the file; undefined for memory that is all zero. */
  readonly offset: number | undefined;
}

/** A range of guest-physical memory that a dump holds. */
export interface MemoryRange {
  readonly gpa: bigint;
  readonly size: bigint;
}

/** The file offset of an extent that is all zero. */
const ZERO = -1;

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

  constructor(source: ByteSource, extents: readonly Extent[]) {
    this.#source = source;
    const pieces = withoutOverlaps(extents.filter((extent) => extent.size > 0));
    this.overlapping = pieces.overlapping;
    this.#starts = Float64Array.from(pieces.starts);
    this.#ends = Float64Array.from(pieces.ends);
    this.#offsets = Float64Array.from(pieces.offsets);
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
      else this.#source.read(offset + (from - this.#starts[piece]!), part);
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
  starts: number[];
  ends: number[];
  offsets: number[];
  overlapping: boolean;
}

/**
 * Cuts extents into pieces that do not overlap, by a sweep over ascending addresses: at each address the winner is
 * the extent of the lowest rank among those that cover it (kept in a heap). O(n log n) for n extents.
 */
function withoutOverlaps(extents: readonly Extent[]): Pieces {
  const rank = (index: number) => (extents[index]!.offset === undefined ? index + extents.length : index);
  const order = Uint32Array.from(extents, (_, index) => index).sort((a, b) => extents[a]!.gpa - extents[b]!.gpa);
  const pieces: Pieces = { starts: [], ends: [], offsets: [], overlapping: false };
  const active = new RankHeap(rank);
  let at = 0;
  let next = 0;
  while (next < order.length || active.top !== undefined) {
    while (active.top !== undefined && endOf(extents[active.top]!) <= at) active.pop();
    if (active.top === undefined) {
      if (next === order.length) break;
      at = extents[order[next]!]!.gpa;
    }
    while (next < order.length && extents[order[next]!]!.gpa <= at) {
      if (active.top !== undefined) pieces.overlapping = true;
      active.push(order[next++]!);
      while (active.top !== undefined && endOf(extents[active.top]!) <= at) active.pop();
    }
    if (active.top === undefined) continue;
    const winner = extents[active.top]!;
    const nextStart = next < order.length ? extents[order[next]!]!.gpa : Number.POSITIVE_INFINITY;
    const end = Math.min(endOf(winner), nextStart);
    append(pieces, at, end, winner.offset === undefined ? ZERO : winner.offset + (at - winner.gpa));
    at = end;
  }
  return pieces;
}

function endOf(extent: Extent): number {
  return extent.gpa + extent.size;
}

/** Adds a piece; one that continues the piece before it, in memory and in the file, is merged with it. */
function append(pieces: Pieces, start: number, end: number, offset: number): void {
  const last = pieces.starts.length - 1;
  if (last >= 0 && pieces.ends[last] === start) {
    const lastOffset = pieces.offsets[last]!;
    const continues =
      offset === ZERO
        ? lastOffset === ZERO
        : lastOffset !== ZERO && lastOffset + (start - pieces.starts[last]!) === offset;
    if (continues) {
      pieces.ends[last] = end;
      return;
    }
  }
  pieces.starts.push(start);
  pieces.ends.push(end);
  pieces.offsets.push(offset);
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
