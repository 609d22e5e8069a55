/** The sections and notes of Xen's dump-core files (docs/misc/dump-core-format.txt, tools/libs/guest/xg_core.h of Xen). */
import { type ByteSource, readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { notesIn } from "./note-list.js";

/** Elf64_Ehdr: the class is always that of 64 bits. */
const EHDR = { shoff: 40, phnum: 56, shentsize: 58, shnum: 60, shstrndx: 62, size: 64 } as const;
/** Elf64_Shdr. */
const SHDR = { name: 0, offset: 24, size: 32, bytes: 64 } as const;
const ELFCLASS64 = 2;
const CLASS_AT = 4;

/** Xen writes about eight. */
const MOST_SECTIONS = 1024;
/** Names and notes of more bytes are refused; those of Xen take less than 8 KiB. */
const MOST_TEXT = 2 ** 20;
/** Pages of 1 TiB. */
const MOST_PAGES = 2 ** 28;
const MOST_VCPUS = 2 ** 16;

/** Types of the notes with the name "Xen" (xen/include/public/elfnote.h). */
const NOTE_HEADER = 0x200_0001;
const NOTE_FORMAT_VERSION = 0x200_0003;
/** struct xen_dumpcore_elfnote_header_desc. */
const HEADER = { magic: 0, vcpus: 8, pages: 16, pageSize: 24, bytes: 32 } as const;
const MAGIC_PV = 0xf00f_ebedn;
const MAGIC_HVM = 0xf00f_ebeen;
const PAGE = 4096;

/** Bytes in the file. */
export interface Section {
  readonly offset: number;
  readonly size: number;
}

export interface XenHeader {
  /** A paravirtualized guest, whose tables have machine addresses. */
  readonly paravirtual: boolean;
  readonly vcpus: number;
  readonly pages: number;
  readonly sections: ReadonlyMap<string, Section>;
}

/** True for the head of an ELF file of 64 bits that has sections and no program headers. */
export function hasSectionsOnly(head: Uint8Array): boolean {
  if (head.length < EHDR.size || head[CLASS_AT] !== ELFCLASS64) return false;
  const view = new DataView(head.buffer, head.byteOffset);
  return view.getUint16(EHDR.phnum, true) === 0 && view.getUint16(EHDR.shnum, true) > 0;
}

/** Reads section headers and notes. Throws a DumpError for what is no dump-core file. */
export function readXenHeader(source: ByteSource, header: DataView): XenHeader {
  const sections = readSections(source, header);
  const note = sections.get(".note.Xen");
  if (note === undefined) {
    const found = [...sections.keys()].filter((name) => name !== "").slice(0, 8);
    throw new DumpError(
      source.name,
      EHDR.phnum,
      `expected program headers or Xen's sections (.note.Xen), found ${found.map(printable).join(", ") || "none"}`,
    );
  }
  if (note.size > MOST_TEXT) {
    throw new DumpError(source.name, note.offset, `expected notes of at most ${MOST_TEXT} bytes, found ${note.size}`);
  }
  return { ...readNotes(source, note), sections };
}

function readSections(source: ByteSource, header: DataView): Map<string, Section> {
  const at = u64(header, EHDR.shoff);
  const count = header.getUint16(EHDR.shnum, true);
  const entrySize = header.getUint16(EHDR.shentsize, true);
  const namesIndex = header.getUint16(EHDR.shstrndx, true);
  const refuse = (offset: number, problem: string) => new DumpError(source.name, offset, problem);
  if (count > MOST_SECTIONS) throw refuse(EHDR.shnum, `expected at most ${MOST_SECTIONS} sections, found ${count}`);
  if (entrySize < SHDR.bytes) {
    throw refuse(EHDR.shentsize, `expected section headers of ${SHDR.bytes} bytes or more, found ${entrySize}`);
  }
  const table = readExactly(source, at, count * entrySize, "the section headers");
  if (namesIndex >= count)
    throw refuse(EHDR.shstrndx, `expected one of ${count} sections with names, found ${namesIndex}`);
  const section = (index: number): Section => ({
    offset: u64(table, index * entrySize + SHDR.offset),
    size: u64(table, index * entrySize + SHDR.size),
  });
  const names = section(namesIndex);
  if (names.size > MOST_TEXT) {
    throw refuse(names.offset, `expected section names of at most ${MOST_TEXT} bytes, found ${names.size}`);
  }
  // Xen writes them last, behind the frame numbers: where they are not there, the numbers may not be either.
  const text = readExactly(source, names.offset, names.size, "the names of the sections");
  const sections = new Map<string, Section>();
  for (let i = 0; i < count; i++) {
    const name = nameAt(text, table.getUint32(i * entrySize + SHDR.name, true));
    if (!sections.has(name)) sections.set(name, section(i));
  }
  return sections;
}

function readNotes(source: ByteSource, { offset, size }: Section): Omit<XenHeader, "sections"> {
  let header: Omit<XenHeader, "sections"> | undefined;
  for (const { view, type, descAt, descSize, named, broken } of notesIn(source, offset, size)) {
    if (!named("Xen")) continue;
    if (type === NOTE_HEADER) {
      if (descSize < HEADER.bytes) throw broken(`expected a header of ${HEADER.bytes} bytes, found ${descSize}`);
      const magic = view.getBigUint64(descAt + HEADER.magic, true);
      if (magic !== MAGIC_PV && magic !== MAGIC_HVM) {
        throw broken(`expected Xen core magic 0xf00febed or 0xf00febee, found 0x${magic.toString(16)}`);
      }
      const pageSize = u64(view, descAt + HEADER.pageSize);
      if (pageSize !== PAGE) throw broken(`expected pages of ${PAGE} bytes, found ${pageSize}`);
      const pages = u64(view, descAt + HEADER.pages);
      if (pages > MOST_PAGES) throw broken(`expected at most ${MOST_PAGES} pages, found ${pages}`);
      const vcpus = u64(view, descAt + HEADER.vcpus);
      if (vcpus > MOST_VCPUS) throw broken(`expected at most ${MOST_VCPUS} processors, found ${vcpus}`);
      header ??= { paravirtual: magic === MAGIC_PV, vcpus, pages };
    } else if (type === NOTE_FORMAT_VERSION) {
      if (descSize < 8) throw broken(`expected a format version of 8 bytes, found ${descSize}`);
      const major = view.getUint32(descAt + 4, true);
      if (major !== 0) throw broken(`expected Xen core format 0, found ${major}`);
    }
  }
  if (header !== undefined) return header;
  throw new DumpError(source.name, offset, "expected a Xen note with the number of pages, found none");
}

function nameAt(text: DataView, at: number): string {
  let name = "";
  for (let i = at; i < text.byteLength && name.length < 64; i++) {
    const code = text.getUint8(i);
    if (code === 0) break;
    name += String.fromCharCode(code);
  }
  return name;
}

/** A name of a file that is no dump-core may be anything. */
function printable(name: string): string {
  return name.replace(/[^!-~]/g, "?");
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
