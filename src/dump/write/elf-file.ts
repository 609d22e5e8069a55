/** ELF cores as this project writes them: 64-bit, notes first, then memory by ascending address. */
import type { DumpMachine } from "../formats/content.js";
import type { Chunk, Piece } from "./written-dump.js";

const PAGE = 4096;
const HEADER = 64;
const PROGRAM_HEADER = 56;
const SECTION_HEADER = 64;
const ET_CORE = 4;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
const READ_WRITE_EXECUTE = 7;
/** e_phnum of a file with more program headers than fit there: section header 0 has their number. */
const PN_XNUM = 0xffff;
const NOTE_HEADER = 12;

/** A range of memory: with bytes, or of which it is only known that it was there. */
export interface Segment {
  readonly gpa: number;
  readonly size: number;
  readonly held: boolean;
}

/** Headers and notes, the places of memory, and the length of the file. */
export interface ElfLayout {
  readonly heads: readonly Chunk[];
  readonly pieces: readonly Piece[];
  readonly size: number;
}

/** Lays out a core with these segments, in ascending order. */
export function elfLayout(segments: readonly Segment[], notes: Uint8Array, machine: DumpMachine): ElfLayout {
  const count = segments.length + 1;
  const extended = count >= PN_XNUM;
  const tableAt = HEADER + (extended ? SECTION_HEADER : 0);
  const notesAt = tableAt + count * PROGRAM_HEADER;
  const head = new Uint8Array(notesAt);
  const view = new DataView(head.buffer);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, ET_CORE, true);
  view.setUint16(18, machine === "i386" ? EM_386 : EM_X86_64, true);
  view.setUint32(20, 1, true);
  setNumber(view, 32, tableAt);
  if (extended) setNumber(view, 40, HEADER);
  view.setUint16(52, HEADER, true);
  view.setUint16(54, PROGRAM_HEADER, true);
  view.setUint16(56, extended ? PN_XNUM : count, true);
  if (extended) {
    view.setUint16(58, SECTION_HEADER, true);
    view.setUint16(60, 1, true);
    view.setUint32(HEADER + 44, count, true);
  }
  let at = tableAt;
  const programHeader = (type: number, offset: number, gpa: number, fileSize: number, memorySize: number) => {
    view.setUint32(at, type, true);
    view.setUint32(at + 4, type === PT_LOAD ? READ_WRITE_EXECUTE : 0, true);
    setNumber(view, at + 8, offset);
    setNumber(view, at + 24, gpa);
    setNumber(view, at + 32, fileSize);
    setNumber(view, at + 40, memorySize);
    at += PROGRAM_HEADER;
  };
  programHeader(PT_NOTE, notesAt, 0, notes.length, notes.length);
  const pieces: Piece[] = [];
  let end = notesAt + notes.length;
  for (const { gpa, size, held } of segments) {
    // The same place in its page as in memory.
    const offset = Math.ceil(end / PAGE) * PAGE + (gpa % PAGE);
    programHeader(PT_LOAD, held ? offset : 0, gpa, held ? size : 0, size);
    if (!held) continue;
    pieces.push({ gpa, size, offset });
    end = offset + size;
  }
  const heads = [
    { offset: 0, bytes: head },
    { offset: notesAt, bytes: notes },
  ];
  return { heads, pieces, size: end };
}

/** A note, with its name and description filled up to multiples of four. */
export function elfNote(name: string, type: number, description: Uint8Array): Uint8Array {
  const nameBytes = new TextEncoder().encode(`${name}\0`);
  const descriptionAt = NOTE_HEADER + Math.ceil(nameBytes.length / 4) * 4;
  const bytes = new Uint8Array(descriptionAt + Math.ceil(description.length / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nameBytes.length, true);
  view.setUint32(4, description.length, true);
  view.setUint32(8, type, true);
  bytes.set(nameBytes, NOTE_HEADER);
  bytes.set(description, descriptionAt);
  return bytes;
}

/** A 64-bit field; numbers below 2^53 are exact. */
function setNumber(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
