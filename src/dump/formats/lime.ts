/** LiME dumps (Linux Memory Extractor): ranges of physical memory, each behind a 32-byte header. */
import type { ByteSource } from "../bytes/byte-source.js";
import { readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { memoryOnly } from "./content.js";
import type { Format } from "./format.js";
import { cutWarnings } from "./warnings.js";

/** "EMiL", as a little-endian word. */
const LIME_MAGIC = 0x4c694d45;
const LIME_VERSION = 1;
const HEADER_SIZE = 32;
/** More ranges than this are refused. */
const MAX_RANGES = 2 ** 20;

export function isLime(head: Uint8Array): boolean {
  return head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0, true) === LIME_MAGIC;
}

export const LIME: Format = {
  title: "a LiME dump",
  matches: isLime,
  read(source) {
    const extents = readRanges(source);
    const memory = new ExtentMap(source, extents);
    const facts = [{ label: "format", value: `LiME, ${extents.length} ranges` }];
    return memoryOnly("lime", memory, facts, cutWarnings(source, memory));
  },
};

/**
 * Reads the range headers: magic, version 1, first and last physical address (inclusive), 8 reserved bytes.
 * The last range may be cut. Throws a DumpError for a header that is none.
 */
function readRanges(source: ByteSource): ExtentList {
  const extents = new ExtentList();
  let at = 0;
  while (at < source.size) {
    // What is left of a header at the end of the file says nothing.
    if (at > 0 && source.size - at < HEADER_SIZE) break;
    const header = readExactly(source, at, HEADER_SIZE, "a LiME range header");
    const magic = header.getUint32(0, true);
    if (magic !== LIME_MAGIC) {
      const [expected, found] = [LIME_MAGIC, magic].map((one) => `0x${one.toString(16)}`);
      throw new DumpError(source.name, at, `expected LiME magic ${expected}, found ${found}`);
    }
    const version = header.getUint32(4, true);
    if (version !== LIME_VERSION) {
      throw new DumpError(source.name, at + 4, `expected LiME version ${LIME_VERSION}, found ${version}`);
    }
    const { first, size } = rangeOf(source, header, at);
    if (extents.length >= MAX_RANGES) {
      throw new DumpError(source.name, at, `expected at most ${MAX_RANGES} LiME ranges, found more`);
    }
    const offset = at + HEADER_SIZE;
    extents.addCut(first, size, offset, source.size - offset);
    at = offset + size;
  }
  return extents;
}

/** First address and size of the range in a header, which has the first and the last address. */
export function rangeOf(source: ByteSource, header: DataView, at: number): { first: number; size: number } {
  const first = header.getBigUint64(8, true);
  const last = header.getBigUint64(16, true);
  if (last < first || last >= 1n << 52n) {
    const found = `0x${first.toString(16)} to 0x${last.toString(16)}`;
    throw new DumpError(source.name, at + 8, `expected a range of physical addresses below 2^52, found ${found}`);
  }
  return { first: Number(first), size: Number(last - first) + 1 };
}
