/** One bit a page, as dumps have them on disk, with the number of set bits before each page. */
import { RangeList } from "./range-list.js";

const PAGE = 4096;
/** Bytes of a block, and the pages that it is about. */
const BLOCK = 4096;
const PAGES_PER_BLOCK = BLOCK * 8;

/** Blocks that are read at once. */
const BLOCKS_AT_ONCE = 256;

const EMPTY = new Uint8Array(BLOCK);
const FULL = new Uint8Array(BLOCK).fill(0xff);

/** Number of set bits of each byte. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest > 0; rest &= rest - 1) count++;
  return count;
});

/**
 * The pages below `pages` whose bit is set: bit n % 8 of byte n / 8. Blocks of one value are shared: the bitmap of memory
 * that is there as a whole takes a few bytes for each 128 MiB.
 */
export class PageBitmap {
  readonly pages: number;
  readonly #blocks: Uint8Array[] = [];
  /** Set bits before each block, and of all. */
  readonly #before: Float64Array;

  /** `read` fills its buffer from that byte of the bitmap on; it is called with ascending offsets. What lies behind the last page does not count. */
  constructor(pages: number, read: (offset: number, into: Uint8Array) => void) {
    this.pages = pages;
    const count = Math.ceil(pages / PAGES_PER_BLOCK);
    this.#before = new Float64Array(count + 1);
    const bytes = Math.ceil(pages / 8);
    const buffer = new Uint8Array(BLOCK);
    const words = new Int32Array(buffer.buffer);
    const ahead = new Uint8Array(Math.min(bytes, BLOCKS_AT_ONCE * BLOCK));
    for (let i = 0; i < count; i++) {
      const inAhead = (i % BLOCKS_AT_ONCE) * BLOCK;
      if (inAhead === 0) read(i * BLOCK, ahead.subarray(0, Math.min(ahead.length, bytes - i * BLOCK)));
      const there = Math.min(BLOCK, bytes - i * BLOCK);
      buffer.fill(0);
      buffer.set(ahead.subarray(inAhead, inAhead + there));
      // The last byte may be about pages behind the last one.
      for (let page = pages - i * PAGES_PER_BLOCK; page < there * 8; page++) buffer[page >> 3]! &= ~(1 << (page % 8));
      const block = shared(words) ?? buffer.slice();
      this.#before[i + 1] = this.#before[i]! + countBits(block, BLOCK);
      this.#blocks.push(block);
    }
  }

  /** Number of pages whose bit is set. */
  get count(): number {
    return this.#before[this.#before.length - 1]!;
  }

  has(page: number): boolean {
    if (page >= this.pages) return false;
    const inBlock = page % PAGES_PER_BLOCK;
    return (this.#blocks[(page - inBlock) / PAGES_PER_BLOCK]![inBlock >> 3]! & (1 << (inBlock % 8))) !== 0;
  }

  /** How many pages before this one have their bit set. */
  rank(page: number): number {
    if (page >= this.pages) return this.count;
    const inBlock = page % PAGES_PER_BLOCK;
    const index = (page - inBlock) / PAGES_PER_BLOCK;
    const block = this.#blocks[index]!;
    const whole = inBlock >> 3;
    const rest = block[whole]! & ((1 << (inBlock % 8)) - 1);
    return this.#before[index]! + countBits(block, whole) + BITS[rest]!;
  }

  /** True if a page from `first` on, before `end`, has its bit set. */
  some(first: number, end: number): boolean {
    return this.rank(Math.min(end, this.pages)) > this.rank(Math.min(first, this.pages));
  }

  /** The blocks one after the other: bytes, and the first page that they are about. */
  *blocks(): Iterable<readonly [Uint8Array, number]> {
    for (let i = 0; i < this.#blocks.length; i++) yield [this.#blocks[i]!, i * PAGES_PER_BLOCK];
  }

  /** The pages whose bit is set here and not in `without`, as ranges of addresses. */
  rangesWithout(without?: PageBitmap): RangeList {
    const ranges = new RangeList();
    let index = 0;
    for (const [block, first] of this.blocks()) {
      const other = without === undefined ? EMPTY : (without.#blocks[index++] ?? EMPTY);
      if (block === EMPTY || (block === FULL && other === FULL)) continue;
      if (block === FULL && other === EMPTY) {
        ranges.append(first * PAGE, (first + PAGES_PER_BLOCK) * PAGE);
        continue;
      }
      for (let at = 0; at < BLOCK; at++) {
        const byte = block[at]! & ~other[at]!;
        if (byte === 0) continue;
        const start = (first + at * 8) * PAGE;
        if (byte === 0xff) {
          ranges.append(start, start + 8 * PAGE);
          continue;
        }
        for (let bit = 0; bit < 8; bit++) {
          if ((byte & (1 << bit)) !== 0) ranges.append(start + bit * PAGE, start + (bit + 1) * PAGE);
        }
      }
    }
    return ranges;
  }
}

/** The shared block of this content, if it has one value. */
function shared(words: Int32Array): Uint8Array | undefined {
  const [first] = words;
  if (first !== 0 && first !== -1) return undefined;
  for (let i = 1; i < words.length; i++) if (words[i] !== first) return undefined;
  return first === 0 ? EMPTY : FULL;
}

function countBits(bytes: Uint8Array, length: number): number {
  if (length === BLOCK && bytes === EMPTY) return 0;
  if (length === BLOCK && bytes === FULL) return PAGES_PER_BLOCK;
  let count = 0;
  for (let i = 0; i < length; i++) count += BITS[bytes[i]!]!;
  return count;
}
