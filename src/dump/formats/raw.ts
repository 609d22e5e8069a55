/** Raw memory: nothing but the bytes of ranges of addresses, which the user has to know. */
import type { ByteSource } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { type DumpContent, memoryOnly } from "./content.js";
import { holeOf, type PcHole } from "./pc-hole.js";

/** Memory from `gpa` on, `size` bytes of it, whose first byte is at `offset` in the file. */
export interface RawRange {
  readonly gpa: bigint;
  readonly size: bigint;
  readonly offset: bigint;
}

/** What says that a file is raw memory, and where its bytes belong; at most one of them. */
export interface RawOptions {
  /**
   * Read the file as raw memory: its first byte is at this guest-physical address, from 0 to 2^52.
   * Without it (and the other two) the format is found out from the file's first bytes.
   */
  readonly rawOffset?: bigint;
  /** Read the file as raw memory in these ranges, which share no address and lie in the file. */
  readonly rawRanges?: readonly RawRange[];
  /** Read the file as all of a PC's RAM, whose part above the hole for devices goes on at 4 GiB: where the hole begins. */
  readonly pcHole?: PcHole;
}

/** More ranges than this are refused. */
const MAX_RANGES = 2 ** 20;
const PHYSICAL_LIMIT = 1n << 52n;

/** True where the options say that the file is raw memory. */
export function isRaw({ rawOffset, rawRanges, pcHole }: RawOptions): boolean {
  return rawOffset !== undefined || rawRanges !== undefined || pcHole !== undefined;
}

/** Reads a file as the raw memory that the options say. Throws a DumpError where they do not fit it. */
export function readRaw(source: ByteSource, { rawOffset, rawRanges, pcHole }: RawOptions): DumpContent {
  const given = [rawOffset, rawRanges, pcHole].filter((one) => one !== undefined);
  if (given.length > 1) {
    throw new DumpError(source.name, undefined, "expected one of rawOffset, rawRanges and pcHole, found several");
  }
  if (rawRanges !== undefined) return readRanges(source, rawRanges);
  if (pcHole !== undefined) return readAroundHole(source, pcHole);
  return readOneRange(source, rawOffset ?? 0n);
}

function readOneRange(source: ByteSource, gpa: bigint): DumpContent {
  if (gpa < 0n || gpa + BigInt(source.size) > PHYSICAL_LIMIT) {
    throw new DumpError(
      source.name,
      undefined,
      `expected raw memory below physical address 2^52, found 0x${source.size.toString(16)} bytes at 0x${gpa.toString(16)}`,
    );
  }
  const extents = new ExtentList();
  extents.add(Number(gpa), source.size, 0);
  return contentOf(source, extents, `raw memory at 0x${gpa.toString(16)}`);
}

/** RAM below the hole, and what follows it in the file from 4 GiB on. */
function readAroundHole(source: ByteSource, hole: PcHole): DumpContent {
  const { start, end, title } = holeOf(source, hole);
  const extents = new ExtentList();
  const low = Math.min(source.size, start);
  extents.add(0, low, 0);
  extents.add(end, source.size - low, low);
  const where = source.size > low ? `from 0x${low.toString(16)} to 0x${end.toString(16)}` : "behind its end";
  return contentOf(source, extents, `raw memory of a PC with a hole ${where} (${title})`);
}

function readRanges(source: ByteSource, ranges: readonly RawRange[]): DumpContent {
  const refuse = (offset: number | undefined, problem: string) => new DumpError(source.name, offset, problem);
  if (ranges.length === 0) throw refuse(undefined, "expected ranges of raw memory, found none");
  if (ranges.length > MAX_RANGES) {
    throw refuse(undefined, `expected at most ${MAX_RANGES} ranges of raw memory, found ${ranges.length}`);
  }
  for (const range of ranges) {
    const { gpa, size, offset } = range;
    if (gpa < 0n || size <= 0n || offset < 0n || gpa + size > PHYSICAL_LIMIT) {
      throw refuse(undefined, `expected a range of raw memory below 2^52, found ${rangeText(range)}`);
    }
    if (offset + size > BigInt(source.size)) {
      const end = `the file ends at 0x${source.size.toString(16)}`;
      // What lies beyond 2^53 has no exact number, and no file.
      const at = offset <= BigInt(source.size) ? Number(offset) : undefined;
      throw refuse(at, `expected the bytes of ${rangeText(range)}, but ${end}`);
    }
  }
  const sorted = [...ranges].sort((a, b) => (a.gpa < b.gpa ? -1 : a.gpa > b.gpa ? 1 : 0));
  for (let i = 1; i < sorted.length; i++) {
    const [before, one] = [sorted[i - 1]!, sorted[i]!];
    if (one.gpa >= before.gpa + before.size) continue;
    const found = `found ${rangeText(before)} and ${rangeText(one)}`;
    throw refuse(undefined, `expected ranges of raw memory that share no address, ${found}`);
  }
  const extents = new ExtentList();
  for (const { gpa, size, offset } of sorted) extents.add(Number(gpa), Number(size), Number(offset));
  return contentOf(source, extents, `raw memory in ${ranges.length} range${ranges.length === 1 ? "" : "s"}, as given`);
}

function contentOf(source: ByteSource, extents: ExtentList, format: string): DumpContent {
  return memoryOnly("raw", new ExtentMap(source, extents), [{ label: "format", value: format }], []);
}

/** A range as it is given on the command line. */
function rangeText({ gpa, size, offset }: RawRange): string {
  return `${gpa.toString(16)}:${size}@${offset.toString(16)}`;
}
