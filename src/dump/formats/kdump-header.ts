/**
 * The headers of kdump-compressed dumps (makedumpfile, QEMU): block 0 has the common header, the next ones the sub-header,
 * which says more from version to version.
 *
 * Layouts are those of the C structures of makedumpfile's diskdump_mod.h, as compilers lay them out for 32 and 64 bits.
 */
import { flagOf } from "../../abi/bits.js";
import { DUMP_LEVEL, KDUMP_FLAGS } from "../../abi/kdump.js";
import { type ByteSource, readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import type { DumpMachine } from "./content.js";

/** A page of x86: the only block size. */
export const BLOCK = 4096;
const SIGNATURE = "KDUMP   ";
const OLD_SIGNATURE = "DISKDUMP";
const NEWEST_VERSION = 6;
/** A sub-header of more blocks is none. */
const MOST_SUB_BLOCKS = 2 ** 16;
/** A dump of more pages (32 TiB) is refused. */
const MOST_PAGES = 2 ** 33;

/** struct disk_dump_header: offsets that do not depend on the width of words. */
const COMMON = { version: 8, release: 142, machine: 272, nameSize: 65 } as const;

/** What does: `timestamp` is a struct timeval, which also aligns what follows. */
const WIDE_HEADER = {
  bits: 64,
  status: 424,
  blockSize: 428,
  subBlocks: 432,
  bitmapBlocks: 436,
  maxMapnr: 440,
} as const;
const NARROW_HEADER = {
  bits: 32,
  status: 412,
  blockSize: 416,
  subBlocks: 420,
  bitmapBlocks: 424,
  maxMapnr: 428,
} as const;
const HEADER_SIZE = 464;

/** struct kdump_sub_header. `size` is the width of the words of unsigned long. */
const WIDE_SUB = {
  size: 8,
  dumpLevel: 8,
  split: 12,
  startPfn: 16,
  endPfn: 24,
  vmcoreinfo: 32,
  notes: 48,
  eraseinfo: 64,
  startPfn64: 80,
  endPfn64: 88,
  maxMapnr64: 96,
  bytes: 104,
} as const;
const NARROW_SUB = {
  size: 4,
  dumpLevel: 4,
  split: 8,
  startPfn: 12,
  endPfn: 16,
  vmcoreinfo: 20,
  notes: 32,
  eraseinfo: 44,
  startPfn64: 56,
  endPfn64: 64,
  maxMapnr64: 72,
  bytes: 80,
} as const;

const INCOMPLETE = flagOf(KDUMP_FLAGS, "INCOMPLETE");
const EXCLUDED_VMEMMAP = flagOf(KDUMP_FLAGS, "EXCLUDED_VMEMMAP");
const LEVELS = DUMP_LEVEL.fields.reduce((all, { name }) => all | flagOf(DUMP_LEVEL, name), 0);

/** Bytes in the file. */
export interface Part {
  readonly offset: number;
  readonly size: number;
}

/** What the headers say. */
export interface KdumpHeader {
  readonly bits: 32 | 64;
  readonly version: number;
  readonly machine: DumpMachine | undefined;
  /** The kernel's release, and its name of the machine. */
  readonly release: string;
  /** KDUMP_FLAGS of the file. */
  readonly status: number;
  readonly incomplete: boolean;
  /** Pages from frame 0 on that the bitmaps are about. */
  readonly pages: number;
  /** Where the bitmaps are: those of the pages that there were, and of those that are in the file. */
  readonly existing: number | undefined;
  readonly dumped: number;
  /** Where the page descriptors begin. */
  readonly descriptors: number;
  /** DUMP_LEVEL, undefined in version 0. */
  readonly level: number | undefined;
  readonly excludesVmemmap: boolean;
  /** Frames that this part of a split dump has; undefined where it is whole. */
  readonly split: { readonly start: number; readonly end: number } | undefined;
  readonly vmcoreinfo: Part | undefined;
  readonly notes: Part | undefined;
  /** Bytes that say what the writer has erased from pages. */
  readonly eraseinfo: number;
  /** What all parts of a split dump share: the common header, and what is not of the part in the sub-header. */
  readonly identity: string;
}

export function isKdump(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, 8));
  return text === SIGNATURE || text === OLD_SIGNATURE;
}

/** Reads the headers; throws a DumpError for what is none, and for sizes that no dump has. */
export function readKdumpHeader(source: ByteSource): KdumpHeader {
  if (text(readExactly(source, 0, SIGNATURE.length, "a kdump header"), 0, SIGNATURE.length) === OLD_SIGNATURE) {
    throw new DumpError(source.name, 0, "expected a kdump, found an old diskdump (RHEL 3 and 4), which is not read");
  }
  const view = readExactly(source, 0, HEADER_SIZE, "a kdump header");
  const version = view.getUint32(COMMON.version, true);
  if (version < 1 || version > NEWEST_VERSION) {
    throw new DumpError(source.name, COMMON.version, `expected kdump version 1 to ${NEWEST_VERSION}, found ${version}`);
  }
  // What is the block size in one layout may be a number of pages in the other; no dump is without a bitmap.
  const layout = [WIDE_HEADER, NARROW_HEADER].find(
    (one) => view.getUint32(one.blockSize, true) === BLOCK && view.getUint32(one.bitmapBlocks, true) > 0,
  );
  if (layout === undefined) {
    const found = view.getUint32(WIDE_HEADER.blockSize, true);
    throw new DumpError(
      source.name,
      WIDE_HEADER.blockSize,
      `expected blocks of ${BLOCK} bytes (pages of x86), found ${found}`,
    );
  }
  const subBlocks = view.getUint32(layout.subBlocks, true);
  if (subBlocks < 1 || subBlocks > MOST_SUB_BLOCKS) {
    const range = `1 to ${MOST_SUB_BLOCKS}`;
    throw new DumpError(source.name, layout.subBlocks, `expected a sub-header of ${range} blocks, found ${subBlocks}`);
  }
  const sub = readSubHeader(source, layout.bits, version);
  const pages = sub.pages ?? view.getUint32(layout.maxMapnr, true);
  if (pages < 1 || pages > MOST_PAGES) {
    throw new DumpError(source.name, layout.maxMapnr, `expected 1 to ${MOST_PAGES} pages, found ${pages}`);
  }
  const bitmapAt = BLOCK * (1 + subBlocks);
  const bitmapBlocks = view.getUint32(layout.bitmapBlocks, true);
  const oneBitmap = Math.ceil(pages / 8 / BLOCK);
  if (bitmapBlocks < oneBitmap) {
    throw new DumpError(
      source.name,
      layout.bitmapBlocks,
      `expected ${oneBitmap} bitmap blocks or more for ${pages} pages, found ${bitmapBlocks}`,
    );
  }
  // Early dumps may have the bitmap of what is in the file alone (crash, diskdump.c, dump_is_partial).
  const both = bitmapBlocks >= 2 * oneBitmap;
  const status = view.getUint32(layout.status, true);
  const machine = text(view, COMMON.machine, COMMON.nameSize);
  return {
    ...sub,
    bits: layout.bits,
    version,
    machine: machine === "x86_64" ? "x86_64" : /^i[3-6]86$/.test(machine) ? "i386" : undefined,
    release: text(view, COMMON.release, COMMON.nameSize),
    status,
    incomplete: (status & INCOMPLETE) !== 0,
    excludesVmemmap: (status & EXCLUDED_VMEMMAP) !== 0,
    pages,
    existing: both ? bitmapAt : undefined,
    dumped: both ? bitmapAt + (bitmapBlocks * BLOCK) / 2 : bitmapAt,
    descriptors: bitmapAt + bitmapBlocks * BLOCK,
    identity: `${sub.level} ${sub.notes?.size} ${sub.vmcoreinfo?.size} ${latin1(view)}`,
  };
}

type SubHeader = Pick<KdumpHeader, "level" | "split" | "vmcoreinfo" | "notes" | "eraseinfo"> & {
  readonly pages: number | undefined;
};

function readSubHeader(source: ByteSource, bits: 32 | 64, version: number): SubHeader {
  const layout = bits === 64 ? WIDE_SUB : NARROW_SUB;
  const view = readExactly(source, BLOCK, layout.bytes, "a kdump sub-header");
  const u64 = (at: number) => view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
  const word = (at: number) => (layout.size === 8 ? u64(at) : view.getUint32(at, true));
  const part = (at: number, since: number): Part | undefined => {
    const size = version >= since ? word(at + 8) : 0;
    return size === 0 ? undefined : { offset: u64(at), size };
  };
  const wide = version >= 6;
  let split: SubHeader["split"];
  if (version >= 2 && view.getUint32(layout.split, true) !== 0) {
    split = {
      start: wide ? u64(layout.startPfn64) : word(layout.startPfn),
      end: wide ? u64(layout.endPfn64) : word(layout.endPfn),
    };
    if (split.start > split.end) {
      const found = `0x${split.start.toString(16)} to 0x${split.end.toString(16)}`;
      throw new DumpError(source.name, BLOCK + layout.startPfn, `expected ascending frames of a part, found ${found}`);
    }
  }
  const level = view.getUint32(layout.dumpLevel, true);
  if (level > LEVELS) {
    throw new DumpError(
      source.name,
      BLOCK + layout.dumpLevel,
      `expected a dump level of 0 to ${LEVELS}, found ${level}`,
    );
  }
  const pages = wide ? u64(layout.maxMapnr64) : 0;
  return {
    level,
    split,
    vmcoreinfo: part(layout.vmcoreinfo, 3),
    notes: part(layout.notes, 4),
    eraseinfo: part(layout.eraseinfo, 5)?.size ?? 0,
    pages: pages === 0 ? undefined : pages,
  };
}

/** Bytes as text, up to the first NUL. */
function text(view: DataView, offset: number, length: number): string {
  const whole = latin1(new DataView(view.buffer, view.byteOffset + offset, length));
  const end = whole.indexOf("\0");
  return end < 0 ? whole : whole.slice(0, end);
}

function latin1(view: DataView): string {
  return new TextDecoder("latin1").decode(view);
}
