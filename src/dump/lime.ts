/** LiME dumps (Linux Memory Extractor): ranges of physical memory, each behind a 32-byte header. */
import type { ByteSource } from "./byte-source.js";
import { readExactly } from "./byte-source.js";
import { DumpError } from "./errors.js";
import { ExtentList } from "./extent-list.js";

/** "EMiL", as a little-endian word. */
const LIME_MAGIC = 0x4c694d45;
const LIME_VERSION = 1;
const HEADER_SIZE = 32;
/** More ranges than this are refused. */
const MAX_RANGES = 2 ** 20;

export function isLime(head: Uint8Array): boolean {
  return head.length >= 4 && new DataView(head.buffer, head.byteOffset).getUint32(0, true) === LIME_MAGIC;
}

/**
 * Reads the range headers: magic, version 1, first and last physical address (inclusive), 8 reserved bytes.
 * Throws a DumpError for a range that does not fit into the file or a header that is none.
 */
export function readLime(source: ByteSource): ExtentList {
  const extents = new ExtentList();
  let at = 0;
  while (at < source.size) {
    const header = readExactly(source, at, HEADER_SIZE, "a LiME range header");
    const magic = header.getUint32(0, true);
    if (magic !== LIME_MAGIC) {
      throw new DumpError(
        source.name,
        at,
        `expected LiME magic 0x${LIME_MAGIC.toString(16)}, found 0x${magic.toString(16)}`,
      );
    }
    const version = header.getUint32(4, true);
    if (version !== LIME_VERSION) {
      throw new DumpError(source.name, at + 4, `expected LiME version ${LIME_VERSION}, found ${version}`);
    }
    const first = header.getBigUint64(8, true);
    const last = header.getBigUint64(16, true);
    if (last < first || last >= 1n << 52n) {
      throw new DumpError(
        source.name,
        at + 8,
        `expected a range of physical addresses below 2^52, found 0x${first.toString(16)} to 0x${last.toString(16)}`,
      );
    }
    const size = Number(last - first) + 1;
    const offset = at + HEADER_SIZE;
    if (offset + size > source.size) {
      throw new DumpError(
        source.name,
        at,
        `expected ${size} bytes of the range 0x${first.toString(16)} to 0x${last.toString(16)}, ` +
          `but the file ends at 0x${source.size.toString(16)}`,
      );
    }
    if (extents.length === MAX_RANGES) {
      throw new DumpError(source.name, at, `expected at most ${MAX_RANGES} LiME ranges, found more`);
    }
    extents.add(Number(first), size, offset);
    at = offset + size;
  }
  return extents;
}
