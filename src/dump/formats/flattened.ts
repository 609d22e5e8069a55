/**
 * Flattened files (`makedumpfile -F`, QEMU's kdump formats): a stream of blocks, each with the offset that it has in the
 * real file. All numbers are big-endian. Who writes them seeks back, so that a later block may overwrite an earlier one.
 */
import { type ByteSource, holdsBytes, readExactly, readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { type Pieces, withoutOverlaps } from "../memory/pieces.js";

const SIGNATURE = "makedumpfile";
const SIGNATURE_SIZE = 16;
/** Bytes before the first block. */
const HEADER_SIZE = 4096;
const TYPE = 1n;
const VERSION = 1n;
const BLOCK_HEADER = 16;
/** Offset and size of the block behind the last one. */
const END = -1n;
/** A file of more blocks is refused: 64 GiB of the 16 KiB in which QEMU writes; makedumpfile writes more at once. */
const MOST_BLOCKS = 2 ** 22;
/** No file is longer. */
const LONGEST = 2 ** 52;

export function isFlattened(head: Uint8Array): boolean {
  return String.fromCharCode(...head.subarray(0, SIGNATURE.length)) === SIGNATURE && head[SIGNATURE.length] === 0;
}

/** Goes through the blocks of a flattened file; may be continued where it was interrupted. */
export class FlattenedScan {
  readonly #source: ByteSource;
  readonly #blocks = new ExtentList();
  #at = HEADER_SIZE;
  #result: FlattenedSource | undefined;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** The real file. Throws a DumpError for blocks that are none; a file that breaks off is complete up to there. */
  run(): FlattenedSource {
    this.#result ??= this.#finish();
    return this.#result;
  }

  #finish(): FlattenedSource {
    if (this.#at === HEADER_SIZE) this.#checkHeader();
    const source = this.#source;
    while (holdsBytes(source, this.#at, BLOCK_HEADER)) {
      const view = readExactly(source, this.#at, BLOCK_HEADER, "the header of a block");
      const offset = view.getBigInt64(0);
      const size = view.getBigInt64(8);
      if (offset === END && size === END) return new FlattenedSource(source, this.#blocks, true);
      if (offset < 0n || size < 1n || offset + size > BigInt(LONGEST)) {
        const found = `${size} bytes for offset ${offset}`;
        throw new DumpError(source.name, this.#at, `expected a block of a flattened file, found ${found}`);
      }
      if (this.#blocks.length === MOST_BLOCKS) {
        throw new DumpError(source.name, this.#at, `expected at most ${MOST_BLOCKS} blocks, found more`);
      }
      const data = this.#at + BLOCK_HEADER;
      const available = Math.min(Number(size), source.size - data);
      this.#blocks.add(Number(offset), available, data);
      this.#at = data + Number(size);
      if (available < Number(size)) break;
    }
    return new FlattenedSource(source, this.#blocks, false);
  }

  #checkHeader(): void {
    const view = readExactly(this.#source, 0, SIGNATURE_SIZE + 16, "the header of a flattened file");
    const [type, version] = [view.getBigInt64(SIGNATURE_SIZE), view.getBigInt64(SIGNATURE_SIZE + 8)];
    if (type === TYPE && version === VERSION) return;
    const found = `type ${type}, version ${version}`;
    throw new DumpError(
      this.#source.name,
      SIGNATURE_SIZE,
      `expected a flattened file of type 1, version 1, found ${found}`,
    );
  }
}

/** The file that a flattened file stands for. */
export class FlattenedSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  /** The mark of the end is there: what no block has is a hole, and reads as zero. */
  readonly complete: boolean;
  readonly #source: ByteSource;
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  readonly #offsets: Float64Array;

  constructor(source: ByteSource, blocks: ExtentList, complete: boolean) {
    this.#source = source;
    this.name = source.name;
    this.complete = complete;
    const pieces: Pieces = withoutOverlaps(blocks.reversed());
    this.#starts = pieces.starts.toArray();
    this.#ends = pieces.ends.toArray();
    this.#offsets = pieces.offsets.toArray();
    this.size = this.#ends[this.#ends.length - 1] ?? 0;
  }

  holds(offset: number, length: number): boolean {
    if (offset + length > this.size) return false;
    if (this.complete) return true;
    let at = offset;
    for (let i = this.#firstEndingAfter(at); at < offset + length; i++) {
      if (this.#starts[i]! > at) return false;
      at = this.#ends[i]!;
    }
    return true;
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    const end = offset + length;
    let at = offset;
    for (let i = this.#firstEndingAfter(at); at < end; i++) {
      const start = Math.min(this.#starts[i]!, end);
      if (start > at) into.fill(0, at - offset, start - offset);
      at = Math.max(at, start);
      const to = Math.min(this.#ends[i]!, end);
      const part = into.subarray(at - offset, to - offset);
      if (part.length > 0) readFully(this.#source, this.#offsets[i]! + (at - this.#starts[i]!), part, "a block");
      at = Math.max(at, to);
    }
    return length;
  }

  #firstEndingAfter(at: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
