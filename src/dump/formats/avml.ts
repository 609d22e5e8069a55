/**
 * AVML's compressed format (microsoft/avml, src/image.rs), also called LiME version 2: ranges of physical memory of at most
 * 16 MiB, each a header as LiME has it, a snappy stream, and the length of that in 8 bytes.
 */
import type { ByteSource } from "../bytes/byte-source.js";
import { holdsBytes, readExactly } from "../bytes/byte-source.js";
import { CodecsNeededError, DumpError } from "../bytes/errors.js";
import type { Unpack } from "../codec/codec.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { memoryOnly } from "./content.js";
import type { Format } from "./format.js";
import { rangeOf } from "./lime.js";
import { SnappyFrames } from "./snappy-frames.js";

/** "AVML", as a little-endian word. */
const AVML_MAGIC = 0x4c4d5641;
const VERSION = 2;
const HEADER_SIZE = 32;
const TRAILER_SIZE = 8;
/** More ranges than this are refused. */
const MAX_RANGES = 2 ** 20;

export const AVML: Format = {
  title: "an AVML dump",
  matches: (head) => head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0, true) === AVML_MAGIC,
  read(source, { codecs, progress }) {
    const unpack = codecs.snappy;
    if (unpack === undefined) throw new CodecsNeededError(source.name, ["snappy"]);
    let scan = progress.get(source);
    if (!(scan instanceof AvmlScan)) {
      scan = new AvmlScan(source, unpack);
      progress.set(source, scan);
    }
    return (scan as AvmlScan).run();
  },
};

/** Goes through the ranges and chunks of a file; may be continued where it was interrupted. */
class AvmlScan {
  readonly #source: ByteSource;
  readonly #frames: SnappyFrames;
  readonly #extents = new ExtentList();
  #ranges = 0;
  #at = 0;
  /** The range whose chunks are being looked for. */
  #open: Range | undefined;

  constructor(source: ByteSource, unpack: Unpack) {
    this.#source = source;
    this.#frames = new SnappyFrames(source, unpack);
  }

  run(): ReturnType<typeof memoryOnly> {
    while (this.#at < this.#source.size) {
      this.#open ??= this.#header();
      if (this.#open === undefined || !this.#chunks(this.#open)) break;
      this.#close(this.#open);
      this.#open = undefined;
    }
    if (this.#open !== undefined) this.#close(this.#open);
    const memory = new ExtentMap(this.#frames, this.#extents);
    const facts = [
      { label: "format", value: `AVML, ${this.#ranges} ranges compressed with snappy` },
      { label: "left out", value: "ranges of up to 16 MiB that are all zero; nothing tells them from holes" },
    ];
    const { bytes } = memory.lacking.cut;
    const end = this.#source.size.toString(16);
    const warnings =
      bytes === 0 ? [] : [`the file breaks off at 0x${end}: ${bytes} bytes of its last range are not there`];
    return memoryOnly("avml", memory, facts, warnings);
  }

  /** The range that begins here; undefined where the file ends inside the header. */
  #header(): Range | undefined {
    const [source, at] = [this.#source, this.#at];
    if (at > 0 && !holdsBytes(source, at, HEADER_SIZE)) return undefined;
    const header = readExactly(source, at, HEADER_SIZE, "an AVML range header");
    const magic = header.getUint32(0, true);
    if (magic !== AVML_MAGIC) {
      const [expected, found] = [AVML_MAGIC, magic].map((one) => `0x${one.toString(16)}`);
      throw new DumpError(source.name, at, `expected AVML magic ${expected}, found ${found}`);
    }
    const version = header.getUint32(4, true);
    if (version !== VERSION) {
      throw new DumpError(source.name, at + 4, `expected AVML version ${VERSION}, found ${version}`);
    }
    const { first, size } = rangeOf(source, header, at);
    if (++this.#ranges > MAX_RANGES) {
      throw new DumpError(source.name, at, `expected at most ${MAX_RANGES} AVML ranges, found more`);
    }
    this.#at = at + HEADER_SIZE;
    return { first, size, unpackedAt: this.#frames.size };
  }

  /** Finds the chunks of a range; false where the file ends before they do. */
  #chunks({ size, unpackedAt }: Range): boolean {
    for (;;) {
      const left = size - (this.#frames.size - unpackedAt);
      if (left === 0) break;
      const chunk = this.#frames.find(this.#at);
      if (chunk === undefined) return false;
      if (chunk.size > left) {
        const found = `expected ${left} bytes more of a range, found a snappy chunk of ${chunk.size}`;
        throw new DumpError(this.#source.name, this.#at, found);
      }
      this.#at = chunk.next;
    }
    this.#at += TRAILER_SIZE;
    return true;
  }

  #close({ first, size, unpackedAt }: Range): void {
    this.#extents.addCut(first, size, unpackedAt, this.#frames.size - unpackedAt);
  }
}

/** A range of memory, and where its bytes begin among the unpacked ones. */
interface Range {
  readonly first: number;
  readonly size: number;
  readonly unpackedAt: number;
}
