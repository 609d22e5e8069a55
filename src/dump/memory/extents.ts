/** Which bytes of the file hold which guest-physical addresses. */
import { type ByteSource, readFully } from "../bytes/byte-source.js";
import { CUT, EXCLUDED, type ExtentList, ZERO } from "./extent-list.js";
import { HeldMemory } from "./held-memory.js";
import { type Pieces, withoutOverlaps } from "./pieces.js";
import { RangeList } from "./range-list.js";

const PAGE = 4096;

/**
 * Guest-physical memory assembled from extents: sorted, without overlaps, looked up by binary search.
 *
 * Where extents overlap, bytes of the file win over declared zeros, and among those the extent that comes first wins.
 * This is how `crash` reads ELF cores (it takes the first program header that contains the address), and QEMU's own
 * overlapping segments (dumps with paging=true have one per linear mapping) name the same file bytes, so that order
 * does not matter there.
 */
export class ExtentMap extends HeldMemory {
  readonly #source: ByteSource;
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #offsets: Float64Array;
  /** True if some extents overlapped. */
  readonly overlapping: boolean;

  constructor(source: ByteSource, extents: ExtentList) {
    super();
    this.#source = source;
    const pieces = withoutOverlaps(extents);
    this.overlapping = pieces.overlapping;
    this.setRanges(
      rangesOf(pieces, (offset) => offset >= 0 || offset === ZERO),
      {
        excluded: rangesOf(pieces, (offset) => offset === EXCLUDED),
        cut: rangesOf(pieces, (offset) => offset === CUT),
      },
    );
    this.#starts = pieces.starts.toArray();
    this.#ends = pieces.ends.toArray();
    this.#offsets = pieces.offsets.toArray();
  }

  /**
   * Reads the page at `gfn`. A page may be assembled from several extents, and bytes that no extent holds
   * (a range that ends inside a page, as firmware memory maps have them) read as zero;
   * returns false where there is not a single byte of the page, or where one is lacking.
   * Throws a DumpError where the file does not have its bytes any more.
   */
  readPage(gfn: bigint, into: Uint8Array): boolean {
    if (gfn >= 1n << 40n || gfn < 0n) return false;
    const pageStart = Number(gfn) * PAGE;
    const pageEnd = pageStart + PAGE;
    let piece = this.#firstEndingAfter(pageStart);
    if (piece === this.#starts.length || this.#starts[piece]! >= pageEnd) return false;
    if (this.isLacking(pageStart, pageEnd)) return false;
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

/** The pieces whose place in the file is one of these, touching ones merged. */
function rangesOf(pieces: Pieces, of: (offset: number) => boolean): RangeList {
  const ranges = new RangeList();
  for (let i = 0; i < pieces.starts.length; i++) {
    if (of(pieces.offsets.get(i))) ranges.append(pieces.starts.get(i), pieces.ends.get(i));
  }
  return ranges;
}
