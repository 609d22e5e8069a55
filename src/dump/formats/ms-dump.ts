/** Microsoft's crash dumps: complete memory dumps, and those with a bitmap of the pages that they have. */
import { type ByteSource, holdsBytes, readExactly, readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { EXCLUDED, ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { PageBitmap } from "../memory/page-bitmap.js";
import { type DumpContent, memoryOnly } from "./content.js";
import type { Format } from "./format.js";
import { BITMAP_KERNEL, FULL, isMsDump, type MsHeader, readMsHeader } from "./ms-header.js";
import { cutWarnings } from "./warnings.js";

const PAGE = 4096;
/** Header of a bitmap, behind that of the dump; the bitmap follows. */
const BITMAP = { signature: 0, valid: 4, firstPage: 0x20, present: 0x28, pages: 0x30, bytes: 0x38 } as const;
const SIGNATURES = ["SDMP", "FDMP"];
const VALID = "DUMP";
/** A byte of a bitmap whose pages are all there. */
const ALL_SET = 0xff;
/** More pages (4 TiB) than this are refused, and more runs of pages: each takes memory. */
const MOST_PAGES = 2 ** 30;
const MOST_RUNS = 2 ** 21;

export const MS_DUMP: Format = {
  title: "a Microsoft crash dump",
  matches: isMsDump,
  read: readMsDump,
};

/** Reads header, runs and bitmap; no page is read. */
function readMsDump(source: ByteSource): DumpContent {
  const header = readMsHeader(source);
  const { extents, warnings } = header.type === FULL ? fullExtents(source, header) : bitmapExtents(source, header);
  const memory = new ExtentMap(source, extents);
  if (memory.held.bytes === 0) {
    throw new DumpError(source.name, header.bytes, "expected pages in a crash dump, found none");
  }
  const kind =
    header.type === FULL ? "complete" : `bitmap of ${header.type === BITMAP_KERNEL ? "kernel" : "all"} memory`;
  const bits = header.bits;
  const facts = [
    { label: "format", value: `Microsoft crash dump, ${bits}-bit, type ${header.type} (${kind})` },
    { label: "bug check", value: `0x${header.bugCheck.toString(16)}, ${header.processors} processors` },
  ];
  const pages = bits === 64 ? "the dump is of 64-bit Windows, so LMA=1" : "the dump is of 32-bit Windows, so LMA=0";
  return {
    ...memoryOnly("microsoft", memory, facts, [...warnings, ...cutWarnings(source, memory)]),
    machine: bits === 64 ? "x86_64" : "i386",
    longMode: { active: bits === 64, reason: pages },
    root: {
      cr3: header.cr3,
      origin: "dump header, DirectoryTableBase",
      ...(bits === 64 ? {} : { pae: { enabled: header.pae, origin: "dump header, PaeEnabled" } }),
    },
  };
}

interface Found {
  readonly extents: ExtentList;
  readonly warnings: readonly string[];
}

/** The pages of all runs follow each other behind the header. */
function fullExtents(source: ByteSource, { runs, bytes }: MsHeader): Found {
  if (runs === undefined) {
    throw new DumpError(source.name, bytes, "expected runs of memory in the header of a complete dump, found none");
  }
  const extents = new ExtentList();
  let offset = bytes;
  for (const { firstPage, pages } of runs) {
    extents.addCut(firstPage * PAGE, pages * PAGE, offset, source.size - offset);
    offset += pages * PAGE;
  }
  return { extents, warnings: [] };
}

/** The pages whose bit is set follow each other from the place on that the bitmap's header names. */
function bitmapExtents(source: ByteSource, { bytes: at, runs }: MsHeader): Found {
  const header = readExactly(source, at, BITMAP.bytes, "the header of a bitmap");
  const word = (offset: number) => String.fromCharCode(...new Uint8Array(header.buffer, offset, 4));
  const [signature, valid] = [word(BITMAP.signature), word(BITMAP.valid)];
  if (!SIGNATURES.includes(signature) || valid !== VALID) {
    const found = [...new Uint8Array(header.buffer, 0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    throw new DumpError(source.name, at, `expected a bitmap (SDMP or FDMP, DUMP), found ${found}`);
  }
  const pages = u64(header, BITMAP.pages);
  if (pages > MOST_PAGES) {
    throw new DumpError(source.name, at + BITMAP.pages, `expected at most ${MOST_PAGES} pages, found ${pages}`);
  }
  const bitmapAt = at + BITMAP.bytes;
  const size = Math.ceil(pages / 8);
  if (!holdsBytes(source, bitmapAt, size)) readExactly(source, bitmapAt, size, "the bitmap of pages");
  const bitmap = new PageBitmap(pages, (offset, into) => {
    readFully(source, bitmapAt + offset, into, "the bitmap of pages");
  });
  const extents = new ExtentList();
  let offset = u64(header, BITMAP.firstPage);
  for (const [start, end] of runsOf(bitmap)) {
    if (extents.length >= MOST_RUNS) {
      throw new DumpError(source.name, bitmapAt, `expected at most ${MOST_RUNS} runs of pages, found more`);
    }
    extents.addCut(start, end - start, offset, source.size - offset);
    offset += end - start;
  }
  // What the machine has and the dump does not was left out.
  for (const run of runs ?? []) extents.add(run.firstPage * PAGE, run.pages * PAGE, EXCLUDED);
  const said = u64(header, BITMAP.present);
  const warnings =
    said === bitmap.count ? [] : [`the header says that there are ${said} pages, and the bitmap has ${bitmap.count}`];
  return { extents, warnings };
}

/** Start and end of the runs of pages whose bit is set; they are not collected, because there may be very many. */
function* runsOf(bitmap: PageBitmap): Iterable<readonly [start: number, end: number]> {
  let start = -1;
  for (const [block, first] of bitmap.blocks()) {
    for (let at = 0; at < block.length; at++) {
      const byte = block[at]!;
      // Nothing begins or ends in it.
      if (byte === (start < 0 ? 0 : ALL_SET)) continue;
      for (let bit = 0; bit < 8; bit++) {
        const page = first + at * 8 + bit;
        const set = (byte & (1 << bit)) !== 0;
        if (set && start < 0) start = page;
        if (set || start < 0) continue;
        yield [start * PAGE, page * PAGE];
        start = -1;
      }
    }
  }
  if (start >= 0) yield [start * PAGE, bitmap.pages * PAGE];
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
