/** kdump-compressed dumps: what makedumpfile writes by default, and QEMU's dump-guest-memory with -z, -l or -s. */
import { flagOf } from "../../abi/bits.js";
import { DUMP_LEVEL } from "../../abi/kdump.js";
import { type ByteSource, readExactly, readFully } from "../bytes/byte-source.js";
import { CodecsNeededError, DumpError } from "../bytes/errors.js";
import type { CodecName } from "../codec/codec.js";
import { PageBitmap } from "../memory/page-bitmap.js";
import type { DumpContent, DumpFact } from "./content.js";
import type { Format, ReadContext } from "./format.js";
import { isKdump, type KdumpHeader, readKdumpHeader } from "./kdump-header.js";
import { CODEC_FLAGS, KdumpMemory, type KdumpPart } from "./kdump-memory.js";
import { copyNotes, longModeOf, MAX_VMCOREINFO, type Notes, noNotes, readNotes, vmcoreinfoText } from "./notes.js";

const ZERO = flagOf(DUMP_LEVEL, "ZERO");

/** One file of a dump, and what its headers say. */
interface File {
  readonly source: ByteSource;
  readonly header: KdumpHeader;
}

export const KDUMP: Format = {
  title: "a kdump",
  takesParts: true,
  matches: isKdump,
  read: readKdump,
};

/**
 * Reads headers, bitmaps and notes of a kdump; no page is read.
 * Throws a DumpError for what does not fit together, and a CodecsNeededError where `codecs` lacks what the pages need.
 */
function readKdump(source: ByteSource, { parts: others, codecs, zeroExcluded }: ReadContext): DumpContent {
  const files = [source, ...others].map((one): File => ({ source: one, header: readKdumpHeader(one) }));
  const { header } = files[0]!;
  const needed = codecsOf(files);
  if (needed.some((name) => codecs[name] === undefined)) throw new CodecsNeededError(source.name, needed);
  const parts = partsOf(files);
  const bitmap = (at: number, what: string) =>
    new PageBitmap(header.pages, (offset, into) => {
      readExactlyInto(source, at + offset, into, what);
    });
  const dumped = bitmap(header.dumped, "the bitmap of pages in the file");
  const existing = header.existing === undefined ? undefined : bitmap(header.existing, "the bitmap of pages");
  const level = header.level ?? 0;
  const notes = notesOf(source, header);
  const memory = new KdumpMemory({
    parts,
    existing,
    dumped,
    zeroExcluded: zeroExcluded || (level === ZERO && !header.excludesVmemmap),
    codecs,
  });
  const warnings: string[] = [...notes.warnings];
  const missing = missingFrames(parts, dumped);
  if (missing !== undefined) {
    warnings.push(
      `this is a part of a split dump, and the parts with pages from ${missing} on are not here: name them with --part`,
    );
  } else if (memory.lacking.cut.bytes > 0) {
    const pages = memory.lacking.cut.bytes / 4096;
    const why = header.incomplete ? "its writer stopped before the end" : "the file breaks off";
    warnings.push(`${why}: ${pages} of ${dumped.count} pages are not there`);
  }
  return {
    format: "kdump",
    machine: header.machine,
    longMode: longModeOf(notes),
    memory,
    excludedTablesAreZero: (level & ZERO) !== 0,
    cpus: notes.cpus,
    copyNotes: () => (header.notes === undefined ? new Uint8Array(0) : copyNotes(source, [{ ...header.notes, at: 0 }])),
    prstatusCount: notes.prstatusCount,
    vmcoreinfo: vmcoreinfoOf(source, header) ?? notes.vmcoreinfo,
    facts: factsOf(header, files),
    warnings,
  };
}

/** Headers announce how pages are compressed; zlib was there before they did. */
function codecsOf(files: readonly File[]): CodecName[] {
  const names = announcedBy(files);
  return names.length === 0 ? ["zlib"] : names;
}

function announcedBy(files: readonly File[]): CodecName[] {
  return (Object.keys(CODEC_FLAGS) as CodecName[]).filter((name) =>
    files.some(({ header }) => (header.status & CODEC_FLAGS[name]) !== 0),
  );
}

/** The parts in the order of their frames. Throws a DumpError where they are not of one dump. */
function partsOf(files: readonly File[]): KdumpPart[] {
  const [first, ...others] = files as [File, ...File[]];
  if (others.length > 0 && first.header.split === undefined) {
    throw new DumpError(
      first.source.name,
      undefined,
      "expected a part of a split dump beside other parts, found a whole one",
    );
  }
  for (const { source, header } of others) {
    if (header.split === undefined)
      throw new DumpError(source.name, undefined, "expected a part of a split dump, found a whole one");
    if (header.identity === first.header.identity) continue;
    throw new DumpError(
      source.name,
      undefined,
      `expected a part of the same dump as ${first.source.name}, found another dump`,
    );
  }
  const parts = files.map(({ source, header }): KdumpPart => {
    const { start, end } = header.split ?? { start: 0, end: header.pages };
    return {
      source,
      descriptors: header.descriptors,
      start: Math.min(start, header.pages),
      end: Math.min(end, header.pages),
    };
  });
  parts.sort((a, b) => a.start - b.start || a.end - b.end);
  for (let i = 1; i < parts.length; i++) {
    const [before, one] = [parts[i - 1]!, parts[i]!];
    if (one.start >= before.end) continue;
    const frame = `0x${one.start.toString(16)}`;
    throw new DumpError(
      one.source.name,
      undefined,
      `expected parts with different pages, found frame ${frame} in two of them`,
    );
  }
  return parts;
}

/** The address of the first page that is in none of the parts. */
function missingFrames(parts: readonly KdumpPart[], dumped: PageBitmap): string | undefined {
  let at = 0;
  for (const { start, end } of [...parts, { start: dumped.pages, end: dumped.pages }]) {
    if (dumped.some(at, start)) return `0x${(at * 4096).toString(16)}`;
    at = Math.max(at, end);
  }
  return undefined;
}

function notesOf(source: ByteSource, { notes }: KdumpHeader): Notes {
  return notes === undefined ? noNotes() : readNotes(source, [{ ...notes, at: notes.offset }]);
}

function vmcoreinfoOf(source: ByteSource, { vmcoreinfo }: KdumpHeader): string | undefined {
  if (vmcoreinfo === undefined) return undefined;
  if (vmcoreinfo.size > MAX_VMCOREINFO) {
    const { offset, size } = vmcoreinfo;
    throw new DumpError(source.name, offset, `expected a VMCOREINFO of at most ${MAX_VMCOREINFO} bytes, found ${size}`);
  }
  return vmcoreinfoText(readExactly(source, vmcoreinfo.offset, vmcoreinfo.size, "VMCOREINFO"), 0, vmcoreinfo.size);
}

function factsOf(header: KdumpHeader, files: readonly File[]): DumpFact[] {
  const { bits, version, level, release } = header;
  const several = files.length === 1 ? "" : `, ${files.length} parts`;
  const announced = announcedBy(files);
  const pages = announced.length === 0 ? "pages as they are" : `pages of ${announced.join(", ")}`;
  const facts: DumpFact[] = [
    {
      label: "format",
      value: `kdump-compressed, version ${version}, ${bits}-bit, ${pages}${several}`,
    },
  ];
  if (release !== "") facts.push({ label: "kernel", value: release });
  if (level !== undefined) facts.push({ label: "dump level", value: levelText(level) });
  if (header.excludesVmemmap) facts.push({ label: "vmemmap", value: "unused parts of it are left out" });
  if (header.eraseinfo > 0) facts.push({ label: "erased", value: "the writer has erased data in pages (eraseinfo)" });
  return facts;
}

function levelText(level: number): string {
  const kinds = DUMP_LEVEL.fields.filter(({ name }) => (level & flagOf(DUMP_LEVEL, name)) !== 0);
  if (kinds.length === 0) return "0: nothing is left out";
  return `${level}: ${kinds.map(({ meaning }) => meaning).join(", ")} are left out`;
}

function readExactlyInto(source: ByteSource, offset: number, into: Uint8Array, what: string): void {
  // Checks that the bytes are there as readExactly does.
  if (source.holds?.(offset, into.length) === false || offset + into.length > source.size) {
    readExactly(source, offset, into.length, what);
  }
  readFully(source, offset, into, what);
}
