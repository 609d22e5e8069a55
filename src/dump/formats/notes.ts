/** ELF notes of memory dumps: which processors there are and what is in their control registers. */
import { flagOf } from "../../abi/bits.js";
import { SELECTOR } from "../../abi/processor.js";
import type { ByteSource } from "../bytes/byte-source.js";
import { holdsBytes } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import type { DumpCpu, LongMode } from "./content.js";
import { notesIn } from "./note-list.js";
import { OWN_NOTE, OWN_NOTE_TYPE, type OwnNote, readOwnNote } from "./own-note.js";
import { readVboxCore, readVboxCpu, type VboxCore, vboxWarnings } from "./vbox-notes.js";

const RPL = flagOf(SELECTOR, "RPL");

/** More notes than this (bytes, in all note segments together) are refused; those of 4,096 QEMU processors are 3.3 MB. */
const MAX_NOTES = 64 * 2 ** 20;
/** A larger VMCOREINFO is refused; QEMU takes none of more than 1 MiB from a guest (dump/dump.c, MAX_GUEST_NOTE_SIZE). */
export const MAX_VMCOREINFO = 2 ** 20;

const NT_PRSTATUS = 1;
/** Bytes of the note of an i386; that of x86-64 has 336. */
const PRSTATUS_32 = 144;
const QEMU_NOTE_TYPE = 0;

/**
 * QEMU's note (QEMUCPUState, target/i386/arch_dump.c): version, size, 16 general registers, rip, rflags,
 * ten segments of 24 bytes, cr0 to cr4, and in later versions kernel_gs_base.
 */
const QEMU_NOTE = {
  version: 1,
  rip: 136,
  rflags: 144,
  csSelector: 152,
  cr0: 392,
  cr2: 408,
  cr3: 416,
  cr4: 424,
  /** Bytes up to and with cr4. */
  leastSize: 432,
} as const;

/** What the notes of a dump say. */
export interface Notes {
  readonly cpus: DumpCpu[];
  prstatusCount: number;
  /** Bytes of the first CORE note, which are those of a struct elf_prstatus of 32 or of 64 bits. */
  prstatusSize: number | undefined;
  vmcoreinfo: string | undefined;
  /** VirtualBox wrote the file: what its own note says. */
  vbox: VboxCore | undefined;
  /** This project wrote the file, of another dump: what its own note says. */
  own: OwnNote | undefined;
  readonly warnings: string[];
}

export function noNotes(): Notes {
  return {
    cpus: [],
    prstatusCount: 0,
    prstatusSize: undefined,
    vmcoreinfo: undefined,
    vbox: undefined,
    own: undefined,
    warnings: [],
  };
}

/** A note segment: its bytes in the file, and where the program header is that declares it. */
export interface FilePart {
  readonly offset: number;
  readonly size: number;
  readonly at: number;
}

/**
 * Reads all note segments, in the order of their program headers. Throws a DumpError for notes that are cut off or
 * malformed, for more of them than MAX_NOTES, and for segments that share bytes: a processor would count twice.
 */
export function readNotes(source: ByteSource, segments: readonly FilePart[]): Notes {
  checkSegments(source, segments);
  const notes = noNotes();
  for (const { offset, size } of segments) {
    if (holdsBytes(source, offset, size)) readSegment(source, offset, size, notes);
    else notes.warnings.push(`the notes at 0x${offset.toString(16)} are not in the file, which breaks off`);
  }
  if (notes.vbox !== undefined) notes.warnings.push(...vboxWarnings(notes.vbox, notes.cpus.length));
  return notes;
}

/**
 * Whether the first processor was in long mode, by the kind of the general registers beside QEMU's note: QEMU writes those
 * of 64 bits if and only if EFER.LMA is set (dump/dump.c, cpu_get_dump_info). Other writers choose by their own width.
 */
export function longModeOf({ cpus, prstatusSize }: Notes): LongMode | undefined {
  if (cpus.length === 0 || prstatusSize === undefined) return undefined;
  const active = prstatusSize > PRSTATUS_32;
  return { active, reason: `QEMU wrote registers of ${active ? 64 : 32} bits, so LMA=${active ? 1 : 0}` };
}

/** The notes themselves, of all segments, but for this project's own: to be written to another file. */
export function copyNotes(source: ByteSource, segments: readonly FilePart[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { offset, size } of segments) {
    if (!holdsBytes(source, offset, size)) continue;
    for (const { view, start, end, named } of notesIn(source, offset, size)) {
      if (!named(OWN_NOTE)) parts.push(new Uint8Array(view.buffer, view.byteOffset + start, end - start));
    }
  }
  // The last one of a segment may end before a multiple of four.
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + alignUp(part.length), 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += alignUp(part.length);
  }
  return bytes;
}

function alignUp(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function checkSegments(source: ByteSource, segments: readonly FilePart[]): void {
  let total = 0;
  for (const { size, at } of segments) {
    total += size;
    if (total > MAX_NOTES) {
      throw new DumpError(source.name, at, `expected notes of at most ${MAX_NOTES} bytes in all, found ${total}`);
    }
  }
  const sorted = [...segments].sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < sorted.length; i++) {
    const [before, one] = [sorted[i - 1]!, sorted[i]!];
    if (one.offset >= before.offset + before.size) continue;
    throw new DumpError(
      source.name,
      Math.max(before.at, one.at),
      `expected note segments that share no bytes, found 0x${one.offset.toString(16)} in two of them`,
    );
  }
}

function readSegment(source: ByteSource, offset: number, size: number, notes: Notes): void {
  for (const { view, type, descAt, descSize, named, broken } of notesIn(source, offset, size)) {
    if (type === NT_PRSTATUS && named("CORE")) {
      notes.prstatusCount++;
      notes.prstatusSize ??= descSize;
    } else if (type === QEMU_NOTE_TYPE && named("QEMU")) {
      notes.cpus.push(readCpu(view, descAt, descSize, notes.cpus.length, broken));
    } else if (named("VBCORE")) {
      notes.vbox ??= readVboxCore(view, descAt, descSize, broken);
    } else if (named("VBCPU")) {
      notes.cpus.push(readVboxCpu(view, descAt, descSize, notes.cpus.length, broken));
    } else if (type === OWN_NOTE_TYPE && named(OWN_NOTE)) {
      notes.own ??= readOwnNote(view, descAt, descSize, broken);
    } else if (named("VMCOREINFO")) {
      if (descSize > MAX_VMCOREINFO) {
        throw broken(`expected a VMCOREINFO of at most ${MAX_VMCOREINFO} bytes, found ${descSize}`);
      }
      notes.vmcoreinfo = vmcoreinfoText(view, descAt, descSize);
    }
  }
}

/** What a QEMU note says of the processor at position `index` among them. */
function readCpu(
  view: DataView,
  at: number,
  size: number,
  index: number,
  broken: (problem: string) => DumpError,
): DumpCpu {
  const version = size >= 8 ? view.getUint32(at, true) : undefined;
  const declared = size >= 8 ? view.getUint32(at + 4, true) : 0;
  if (version === undefined || declared > size || declared < QEMU_NOTE.leastSize) {
    const least = QEMU_NOTE.leastSize;
    throw broken(`expected a QEMU processor state of ${least} to ${size} bytes, found ${declared}`);
  }
  if (version !== QEMU_NOTE.version) {
    throw broken(`expected QEMU processor state version ${QEMU_NOTE.version}, found ${version}`);
  }
  const u64 = (field: number) => view.getBigUint64(at + field, true);
  return {
    index,
    origin: "note QEMU",
    cr0: u64(QEMU_NOTE.cr0),
    cr2: u64(QEMU_NOTE.cr2),
    cr3: u64(QEMU_NOTE.cr3),
    cr4: u64(QEMU_NOTE.cr4),
    efer: undefined,
    rip: u64(QEMU_NOTE.rip),
    rflags: u64(QEMU_NOTE.rflags),
    cpl: view.getUint32(at + QEMU_NOTE.csSelector, true) & RPL,
  };
}

/** Bytes as text, without the NULs at the end. */
export function vmcoreinfoText(view: DataView, offset: number, length: number): string {
  let end = length;
  while (end > 0 && view.getUint8(offset + end - 1) === 0) end--;
  return new TextDecoder("latin1").decode(new Uint8Array(view.buffer, view.byteOffset + offset, end));
}
