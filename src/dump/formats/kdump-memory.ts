/** The pages of a kdump-compressed dump, or of the parts of one. */
import { flagOf } from "../../abi/bits.js";
import { KDUMP_FLAGS } from "../../abi/kdump.js";
import { type ByteSource, holdsBytes, readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { CodecError, type CodecName, type Codecs } from "../codec/codec.js";
import { HeldMemory } from "../memory/held-memory.js";
import { PageBitmap } from "../memory/page-bitmap.js";

const PAGE = 4096;
/** No frame has a number beyond: physical addresses have 52 bits. */
const FRAMES = 1n << 40n;
/** struct page_desc: offset, size, flags, and the kernel's flags of the page. */
const DESCRIPTOR = { size: 24, dataOffset: 0, dataSize: 8, flags: 12 } as const;
/** Descriptors are read in pieces of so many where all are looked at. */
const DESCRIPTORS_AT_ONCE = 2 ** 13;
/** A compressed page that is larger than this is none: writers keep the page itself where it does not become smaller. */
const LARGEST_PACKED = 2 * PAGE;

/** The flag of each way to compress a page. */
export const CODEC_FLAGS: Readonly<Record<CodecName, number>> = {
  zlib: flagOf(KDUMP_FLAGS, "ZLIB"),
  lzo: flagOf(KDUMP_FLAGS, "LZO"),
  snappy: flagOf(KDUMP_FLAGS, "SNAPPY"),
  zstd: flagOf(KDUMP_FLAGS, "ZSTD"),
};
const CODECS = Object.entries(CODEC_FLAGS) as [CodecName, number][];
const COMPRESSED = CODECS.reduce((all, [, flag]) => all | flag, 0);

/** A file that has the pages of some frames. */
export interface KdumpPart {
  readonly source: ByteSource;
  /** Offset of the first page descriptor. */
  readonly descriptors: number;
  /** Frames that it is about. */
  readonly start: number;
  readonly end: number;
}

export interface KdumpMemoryOptions {
  /** In the order of their frames, without overlaps. */
  readonly parts: readonly KdumpPart[];
  /** Pages that the machine had, and of them those that are in the files. */
  readonly existing: PageBitmap | undefined;
  readonly dumped: PageBitmap;
  /** Pages that are not in the files are all zero. */
  readonly zeroExcluded: boolean;
  readonly codecs: Codecs;
}

interface Descriptor {
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
}

export class KdumpMemory extends HeldMemory {
  readonly #parts: readonly KdumpPart[];
  readonly #dumped: PageBitmap;
  readonly #codecs: Codecs;
  readonly #zeroExcluded: boolean;
  readonly #descriptor = new DataView(new ArrayBuffer(DESCRIPTOR.size));
  readonly #packed = new Uint8Array(LARGEST_PACKED);

  /** Reads no page. Descriptors are looked at where the last of a part is not there, to know which are. */
  constructor({ parts, existing, dumped, zeroExcluded, codecs }: KdumpMemoryOptions) {
    super();
    this.#parts = parts;
    this.#dumped = dumped;
    this.#codecs = codecs;
    this.#zeroExcluded = zeroExcluded;
    const cut = this.#cutPages();
    this.setRanges((zeroExcluded && existing ? union(existing, dumped) : dumped).rangesWithout(cut), {
      cut: (cut ?? none()).rangesWithout(),
      excluded: (zeroExcluded || existing === undefined ? none() : existing).rangesWithout(dumped),
    });
  }

  readPage(gfn: bigint, into: Uint8Array): boolean {
    if (gfn < 0n || gfn >= FRAMES) return false;
    const frame = Number(gfn);
    const page = into.subarray(0, PAGE);
    if (!this.#dumped.has(frame)) {
      if (!this.#zeroExcluded || !this.isHeld(frame * PAGE, (frame + 1) * PAGE)) return false;
      page.fill(0);
      return true;
    }
    const part = this.#partOf(frame);
    if (part === undefined) return false;
    const { index, at } = this.#place(part, frame);
    if (!holdsBytes(part.source, at, DESCRIPTOR.size)) return false;
    readFully(part.source, at, new Uint8Array(this.#descriptor.buffer), `descriptor ${index}`);
    const descriptor = descriptorIn(this.#descriptor, 0);
    if (!isThere(part.source, descriptor)) return false;
    this.#unpack(part.source, at, frame, descriptor, page);
    return true;
  }

  #unpack(source: ByteSource, at: number, frame: number, { offset, size, flags }: Descriptor, page: Uint8Array): void {
    const where = `page 0x${(frame * PAGE).toString(16)}`;
    const compression = flags & COMPRESSED;
    if (compression === 0) {
      if (size !== PAGE) throw new DumpError(source.name, at, `${where}: expected ${PAGE} bytes, found ${size}`);
      readFully(source, offset, page, where);
      return;
    }
    const name = CODECS.find(([, flag]) => flag === compression)?.[0];
    if (name === undefined) {
      throw new DumpError(
        source.name,
        at,
        `${where}: expected one way of compression, found flags 0x${flags.toString(16)}`,
      );
    }
    if (size === 0 || size > LARGEST_PACKED) {
      throw new DumpError(source.name, at, `${where}: expected 1 to ${LARGEST_PACKED} bytes of ${name}, found ${size}`);
    }
    const unpack = this.#codecs[name];
    if (unpack === undefined) {
      throw new DumpError(source.name, at, `${where}: expected a compression that the header announces, found ${name}`);
    }
    const packed = this.#packed.subarray(0, size);
    readFully(source, offset, packed, where);
    try {
      unpack(packed, page);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      throw new DumpError(source.name, offset, `${where}: expected ${PAGE} bytes of ${name}, found ${error.message}`);
    }
  }

  #partOf(frame: number): KdumpPart | undefined {
    return this.#parts.find(({ start, end }) => frame >= start && frame < end);
  }

  /** Where the descriptor of a page is: the files have one for each page that they have, in the order of the frames. */
  #place(part: KdumpPart, frame: number): { readonly index: number; readonly at: number } {
    const index = this.#dumped.rank(frame) - this.#dumped.rank(part.start);
    return { index, at: part.descriptors + index * DESCRIPTOR.size };
  }

  /**
   * The pages that should be in the files and are not: in none of the parts, or without a descriptor or data. Data is
   * written in the order of the descriptors, so where the last page of each part is there, all are.
   */
  #cutPages(): PageBitmap | undefined {
    const broken = this.#parts.filter((part) => !this.#lastIsThere(part));
    const covered = this.#parts.reduce((sum, part) => sum + this.#countOf(part), 0);
    if (broken.length === 0 && covered === this.#dumped.count) return undefined;
    const there = new Uint8Array(Math.ceil(this.#dumped.pages / 8));
    for (const part of this.#parts) this.#markThere(part, there);
    return difference(this.#dumped, there);
  }

  #countOf({ start, end }: KdumpPart): number {
    return this.#dumped.rank(end) - this.#dumped.rank(start);
  }

  /**
   * Looks at the last descriptors, back to some that name different data: writers let all zero pages share one, which lies
   * at the front.
   */
  #lastIsThere(part: KdumpPart): boolean {
    const buffer = new DataView(new ArrayBuffer(DESCRIPTORS_AT_ONCE * DESCRIPTOR.size));
    for (let end = this.#countOf(part); end > 0; end -= DESCRIPTORS_AT_ONCE) {
      const count = Math.min(DESCRIPTORS_AT_ONCE, end);
      if (readDescriptors(part, end - count, count, buffer) < count) return false;
      const last = descriptorIn(buffer, (count - 1) * DESCRIPTOR.size);
      let different = false;
      for (let i = 0; i < count; i++) {
        const descriptor = descriptorIn(buffer, i * DESCRIPTOR.size);
        if (!isThere(part.source, descriptor)) return false;
        different ||= descriptor.offset !== last.offset;
      }
      if (different) return true;
    }
    return true;
  }

  /** Sets the bit of each page of a part that has a descriptor and data. */
  #markThere(part: KdumpPart, there: Uint8Array): void {
    const buffer = new DataView(new ArrayBuffer(DESCRIPTORS_AT_ONCE * DESCRIPTOR.size));
    let inBuffer = 0;
    let next = 0;
    let index = 0;
    const count = this.#countOf(part);
    for (const [block, first] of this.#dumped.blocks()) {
      if (first >= part.end || first + block.length * 8 <= part.start) continue;
      for (let i = 0; i < block.length; i++) {
        if (block[i] === 0) continue;
        for (let bit = 0; bit < 8; bit++) {
          const frame = first + i * 8 + bit;
          if ((block[i]! & (1 << bit)) === 0 || frame < part.start || frame >= part.end) continue;
          if (next === inBuffer) {
            inBuffer = Math.min(DESCRIPTORS_AT_ONCE, count - index);
            inBuffer = readDescriptors(part, index, inBuffer, buffer);
            if (inBuffer === 0) return;
            next = 0;
          }
          if (isThere(part.source, descriptorIn(buffer, next * DESCRIPTOR.size)))
            there[frame >> 3]! |= 1 << (frame % 8);
          next++;
          index++;
        }
      }
    }
  }
}

/** Reads so many descriptors, or as many as are there, and returns how many. */
function readDescriptors(part: KdumpPart, index: number, count: number, buffer: DataView): number {
  const at = part.descriptors + index * DESCRIPTOR.size;
  let there = count;
  while (there > 0 && !holdsBytes(part.source, at, there * DESCRIPTOR.size)) there = Math.floor(there / 2);
  if (there > 0)
    readFully(part.source, at, new Uint8Array(buffer.buffer, 0, there * DESCRIPTOR.size), "page descriptors");
  return there;
}

function descriptorIn(view: DataView, at: number): Descriptor {
  const low = view.getUint32(at + DESCRIPTOR.dataOffset, true);
  const high = view.getUint32(at + DESCRIPTOR.dataOffset + 4, true);
  return {
    offset: high * 2 ** 32 + low,
    size: view.getUint32(at + DESCRIPTOR.dataSize, true),
    flags: view.getUint32(at + DESCRIPTOR.flags, true),
  };
}

/** A writer that stopped leaves descriptors of zeros. */
function isThere(source: ByteSource, { offset, size }: Descriptor): boolean {
  return offset !== 0 && holdsBytes(source, offset, size);
}

function none(): PageBitmap {
  return new PageBitmap(0, () => {});
}

function union(one: PageBitmap, other: PageBitmap): PageBitmap {
  const others = bytesOf(other);
  return combined(one, (byte) => byte | others.next().value!);
}

/** The pages of a bitmap whose bit is not set in `there`. */
function difference(one: PageBitmap, there: Uint8Array): PageBitmap {
  return combined(one, (byte, at) => byte & ~there[at]!);
}

function combined(one: PageBitmap, how: (byte: number, at: number) => number): PageBitmap {
  const bytes = bytesOf(one);
  return new PageBitmap(one.pages, (offset, into) => {
    for (let i = 0; i < into.length; i++) into[i] = how(bytes.next().value!, offset + i);
  });
}

function* bytesOf(bitmap: PageBitmap): Generator<number, undefined> {
  for (const [block] of bitmap.blocks()) yield* block;
  return undefined;
}
