/** Dumps of any format as ELF cores or LiME dumps, whole or cut down to their page tables. */
import { DumpError } from "../bytes/errors.js";
import type { Dump } from "../dump.js";
import { OWN_NOTE, OWN_NOTE_TYPE, writeOwnNote } from "../formats/own-note.js";
import type { MemoryRange } from "../memory/presence.js";
import { TableReader } from "../tables/table-reader.js";
import { type InspectedMode, SHAPES } from "../tables/table-shape.js";
import { elfLayout, elfNote, type Segment } from "./elf-file.js";
import { type Chunk, memoryChunks, type Piece, type WrittenDump } from "./written-dump.js";

const PAGE = 4096;
const FRAME = BigInt(PAGE);
/** Readers refuse more program headers, or ranges. */
const MOST_SEGMENTS = 2 ** 20 - 1;

/** Registers of these are in the notes that are copied. */
const IN_NOTES = /^note /;

const LIME_MAGIC = 0x4c694d45;
const LIME_HEADER = 32;

/** The formats that are written. */
export type WrittenFormat = "elf" | "lime";

/** A root whose tables are kept: its guest-physical address without CR3's flags. */
export interface KeptRoot {
  readonly root: bigint;
  readonly mode: InspectedMode;
}

/**
 * The dump in another format, with all that it holds. An ELF core keeps notes, registers, and which pages were left out; what a
 * broken file lacks is absent. LiME has memory alone. Throws a DumpError for more ranges than readers take.
 */
export function convertDump(dump: Dump, format: WrittenFormat): WrittenDump {
  return format === "elf" ? asElf(dump, segmentsOf(dump), false) : asLime(dump);
}

/** What is known beside the dump. */
export interface ReduceOptions {
  /** The bit of entries that says that a page is encrypted. Default 0n. */
  readonly encryptionMask?: bigint;
  /** VMCOREINFO, where the dump has no note of it. */
  readonly vmcoreinfo?: string | undefined;
}

/**
 * An ELF core with the page tables below these roots, and the notes: no data. Registers in notes are kept, general ones too. What the
 * tables map is not there, which `tablesOnly` of the new dump says.
 */
export function reduceDump(
  dump: Dump,
  roots: readonly KeptRoot[],
  { encryptionMask = 0n, vmcoreinfo }: ReduceOptions = {},
): WrittenDump {
  const tables = new Set<number>();
  const readers = new Map<InspectedMode, TableReader>();
  for (const { root, mode } of roots) {
    let reader = readers.get(mode);
    if (reader === undefined) {
      reader = new TableReader(dump, SHAPES[mode], encryptionMask);
      readers.set(mode, reader);
    }
    reader.addTables(Number(root), tables);
  }
  const frames = [...new Set([...tables].map((table) => Math.floor(table / PAGE)))].sort((a, b) => a - b);
  const segments = new SegmentList();
  for (const frame of frames) {
    // What the file lacks is not there: said to be left out, it could be read as zero.
    const isThere = isHeld(dump, frame);
    const isLeftOut = !isThere && dump.presence(BigInt(frame) * FRAME, FRAME) === "excluded";
    if (isThere || isLeftOut) segments.add({ gpa: frame * PAGE, size: PAGE, held: isThere });
  }
  return asElf(dump, segments.list, true, vmcoreinfo);
}

/** Segments in ascending order; those that continue the one before are one with it. */
class SegmentList {
  readonly list: Segment[] = [];

  add(segment: Segment): void {
    const last = this.list.at(-1);
    if (last !== undefined && last.held === segment.held && last.gpa + last.size === segment.gpa) {
      this.list[this.list.length - 1] = { ...last, size: last.size + segment.size };
    } else this.list.push(segment);
  }
}

const SCRATCH = new Uint8Array(PAGE);

function isHeld({ pageSource }: Dump, frame: number): boolean {
  return pageSource.readPage(BigInt(frame), SCRATCH);
}

/** All that is held, and all that was left out. */
function segmentsOf(dump: Dump): readonly Segment[] {
  const held = dump.ranges.flatMap((range) => wholePart(dump, range));
  const excluded = dump.memory
    .lackingRanges("excluded")
    .map(({ gpa, size }) => ({ gpa: Number(gpa), size: Number(size), held: false }));
  const segments = new SegmentList();
  for (const one of [...held, ...excluded].sort((a, b) => a.gpa - b.gpa)) segments.add(one);
  return segments.list;
}

/** A range, without the parts of pages at its ends that cannot be read because the rest of the page is lacking. */
function wholePart(dump: Dump, { gpa, size }: MemoryRange): Segment[] {
  let [start, end] = [Number(gpa), Number(gpa + size)];
  if (start % PAGE !== 0 && !isHeld(dump, Math.floor(start / PAGE))) start = Math.ceil(start / PAGE) * PAGE;
  if (end % PAGE !== 0 && !isHeld(dump, Math.floor(end / PAGE))) end = Math.floor(end / PAGE) * PAGE;
  return start < end ? [{ gpa: start, size: end - start, held: true }] : [];
}

function asElf(dump: Dump, segments: readonly Segment[], tablesOnly: boolean, vmcoreinfo?: string): WrittenDump {
  if (!segments.some(({ held }) => held))
    throw new DumpError(dump.name, undefined, "expected something to write, found none");
  checkCount(dump, segments.length);
  const { heads, pieces, size } = elfLayout(segments, notesOf(dump, tablesOnly, vmcoreinfo), machineOf(dump));
  const { cut } = dump.memory.lacking;
  const losses = cut.bytes > 0 && !tablesOnly ? [`${cut.bytes} bytes that the file lacks are absent`] : [];
  return writtenDump(dump, heads, pieces, size, losses);
}

/** QEMU's readers take long mode from the machine; where nothing says it, that of 64 bits has both. */
function machineOf({ longMode, machine, cpus }: Dump): "x86_64" | "i386" {
  if (cpus.length > 0 && longMode !== undefined) return longMode.active ? "x86_64" : "i386";
  return machine ?? (longMode?.active === false ? "i386" : "x86_64");
}

function notesOf(dump: Dump, tablesOnly: boolean, found: string | undefined): Uint8Array {
  const copied = dump.copyNotes?.() ?? new Uint8Array(0);
  const vmcoreinfo = dump.vmcoreinfo ?? found;
  const isThere = vmcoreinfo === undefined || (dump.format === "elf" && dump.vmcoreinfo !== undefined);
  const own = writeOwnNote({
    tablesOnly,
    madeOf: dump.format,
    excludedTablesAreZero: dump.excludedTablesAreZero,
    longMode: dump.longMode,
    root: dump.root,
    cpus: dump.cpus.filter(({ origin }) => !IN_NOTES.test(origin)),
  });
  return joined([
    copied,
    ...(isThere ? [] : [elfNote("VMCOREINFO", 0, new TextEncoder().encode(vmcoreinfo))]),
    elfNote(OWN_NOTE, OWN_NOTE_TYPE, own),
  ]);
}

function asLime(dump: Dump): WrittenDump {
  const held = segmentsOf(dump).filter((segment) => segment.held);
  checkCount(dump, held.length);
  const heads: Chunk[] = [];
  const pieces: Piece[] = [];
  let at = 0;
  for (const { gpa, size } of held) {
    const bytes = new Uint8Array(LIME_HEADER);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, LIME_MAGIC, true);
    view.setUint32(4, 1, true);
    view.setBigUint64(8, BigInt(gpa), true);
    view.setBigUint64(16, BigInt(gpa + size - 1), true);
    heads.push({ offset: at, bytes });
    pieces.push({ gpa, size, offset: at + LIME_HEADER });
    at += LIME_HEADER + size;
  }
  const { excluded, cut } = dump.memory.lacking;
  const losses = [
    ...(dump.cpus.length > 0 || dump.root !== undefined ? ["LiME has no registers: CR3 has to be given (--cr3)"] : []),
    ...(excluded.bytes + cut.bytes > 0
      ? [
          `LiME does not say what is lacking: ${excluded.bytes + cut.bytes} bytes are absent, and so are tables among them`,
        ]
      : []),
  ];
  return writtenDump(dump, heads, pieces, at, losses);
}

function writtenDump(
  { pageSource }: Dump,
  heads: readonly Chunk[],
  pieces: readonly Piece[],
  size: number,
  losses: readonly string[],
): WrittenDump {
  return {
    size,
    pages: pieces.reduce((sum, piece) => sum + Math.ceil(piece.size / PAGE), 0),
    losses,
    *chunks() {
      yield* heads;
      yield* memoryChunks(pageSource, pieces);
    },
  };
}

function checkCount({ name }: Dump, count: number): void {
  if (count <= MOST_SEGMENTS) return;
  throw new DumpError(name, undefined, `expected at most ${MOST_SEGMENTS} ranges to write, found ${count}`);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
