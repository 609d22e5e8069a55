/** ELF core files that hold guest-physical memory (QEMU's dump-guest-memory, kdump's /proc/vmcore, VirtualBox's cores). */
import { bitOf } from "../../abi/bits.js";
import { EFER } from "../../abi/registers.js";
import type { ByteSource } from "../bytes/byte-source.js";
import { readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { EXCLUDED, ExtentList, ZERO } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import type { DumpContent, DumpFact, DumpMachine, LongMode } from "./content.js";
import type { Format, ReadContext } from "./format.js";
import { copyNotes, type FilePart, type Notes, readNotes } from "./notes.js";
import type { OwnNote } from "./own-note.js";
import { cutWarnings } from "./warnings.js";
import { hasSectionsOnly } from "./xen-sections.js";

const LMA = bitOf(EFER, "LMA");

const ELFCLASS32 = 1;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ET_CORE = 4;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** e_phnum when the real count does not fit into 16 bits; it is then in sh_info of section header 0. */
const PN_XNUM = 0xffff;

/** More program headers than this are refused: a file that claims them is broken or made to keep a reader busy. */
const MAX_PROGRAM_HEADERS = 2 ** 20;
/** So is a table of more bytes than these: headers may be declared as larger than they are. */
const MAX_TABLE = 2 ** 28;
/** Program headers are read in pieces of at most this many bytes. */
const TABLE_CHUNK = 2 ** 20;
/** Physical addresses of x86 have at most 52 bits. */
const PHYSICAL_LIMIT = 2 ** 52;

/** Byte offsets of the fields that a reader of memory dumps needs, by class. */
interface ElfLayout {
  readonly bits: 32 | 64;
  readonly headerSize: number;
  readonly phoff: number;
  readonly shoff: number;
  readonly phentsize: number;
  readonly phnum: number;
  readonly sectionHeaderSize: number;
  readonly shInfo: number;
  readonly programHeaderSize: number;
  readonly pOffset: number;
  readonly pVaddr: number;
  readonly pPaddr: number;
  readonly pFilesz: number;
  readonly pMemsz: number;
}

const ELF32: ElfLayout = {
  bits: 32,
  headerSize: 52,
  phoff: 28,
  shoff: 32,
  phentsize: 42,
  phnum: 44,
  sectionHeaderSize: 40,
  shInfo: 28,
  programHeaderSize: 32,
  pOffset: 4,
  pVaddr: 8,
  pPaddr: 12,
  pFilesz: 16,
  pMemsz: 20,
};

const ELF64: ElfLayout = {
  bits: 64,
  headerSize: 64,
  phoff: 32,
  shoff: 40,
  phentsize: 54,
  phnum: 56,
  sectionHeaderSize: 64,
  shInfo: 44,
  programHeaderSize: 56,
  pOffset: 8,
  pVaddr: 16,
  pPaddr: 24,
  pFilesz: 32,
  pMemsz: 40,
};

export function isElf(head: Uint8Array): boolean {
  return head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
}

export const ELF_CORE: Format = {
  title: "an ELF core",
  // Without program headers it may be Xen's, which has sections.
  matches: (head) => isElf(head) && !hasSectionsOnly(head),
  check: (source) => {
    readElfHeader(source);
  },
  read: readElfCore,
};

/**
 * Reads the headers and notes of an ELF core; no memory is read.
 *
 * e_ehsize, p_align and the order of the tables are not relied upon: QEMU writes e_ehsize 8, p_align 0 and the section
 * headers before the program headers. Throws a DumpError for headers that are not whole; memory that lies behind the end
 * of the file is cut.
 */
function readElfCore(source: ByteSource, { zeroExcluded }: ReadContext): DumpContent {
  const { header, layout, machine } = readElfHeader(source);
  const table = locateProgramHeaders(source, header, layout);
  const { declared, noteSegments, segments, linear } = readProgramHeaders(source, layout, table);
  const notes = readNotes(source, noteSegments);
  const tails = tailsOf(notes, linear, zeroExcluded);
  const memory = new ExtentMap(source, declared.withTails(tails.kind));
  if (memory.held.bytes === 0) {
    const lost = memory.lacking.cut.bytes > 0 ? ": all of them lie behind the end of the file" : "";
    throw new DumpError(source.name, table.offset, `expected memory segments, found none${lost}`);
  }
  const facts = [{ label: "format", value: `ELF${layout.bits} core, machine ${machine}, ${segments} memory segments` }];
  if (tails.kind !== undefined && declared.tailBytes > 0) facts.push({ label: "left out", value: tails.reason });
  if (notes.vbox !== undefined) facts.push({ label: "writer", value: `VirtualBox ${notes.vbox.version}` });
  if (notes.own !== undefined) facts.push(originOf(notes.own));
  if (memory.overlapping) facts.push({ label: "segments", value: "some overlap; the first that has the bytes counts" });
  return {
    format: "elf",
    machine,
    longMode: notes.own?.longMode ?? longModeOf(notes, machine),
    memory,
    excludedTablesAreZero: notes.own?.excludedTablesAreZero ?? tails.kind === EXCLUDED,
    cpus: notes.cpus.length > 0 ? notes.cpus : (notes.own?.cpus ?? []),
    ...(notes.own?.root === undefined ? {} : { root: notes.own.root }),
    copyNotes: () => copyNotes(source, noteSegments),
    tablesOnly: notes.own?.tablesOnly ?? false,
    prstatusCount: notes.prstatusCount,
    vmcoreinfo: notes.vmcoreinfo,
    facts,
    warnings: [...notes.warnings, ...cutWarnings(source, memory)],
  };
}

function originOf({ tablesOnly, madeOf }: OwnNote): DumpFact {
  if (!tablesOnly) return { label: "made of", value: `a dump of another kind (${madeOf})` };
  return { label: "made of", value: `a dump (${madeOf}), of which it has page tables and notes alone` };
}

/** QEMU alone chooses the machine by EFER.LMA: what other writers put there is what they were built for. */
function longModeOf({ cpus }: Notes, machine: DumpMachine): LongMode | undefined {
  const [cpu] = cpus;
  if (cpu === undefined) return undefined;
  if (cpu.efer !== undefined) {
    const active = (cpu.efer & LMA) !== 0n;
    return { active, reason: `${cpu.origin} has EFER 0x${cpu.efer.toString(16)}, so LMA=${active ? 1 : 0}` };
  }
  const active = machine === "x86_64";
  return { active, reason: `the ELF machine is ${active ? "x86-64" : "i386"}, so LMA=${active ? 1 : 0}` };
}

/** What memory is that a segment has (p_memsz) and that the file has no bytes of (p_filesz). */
interface Tails {
  /** Undefined for memory that is not in the dump at all. */
  readonly kind: typeof ZERO | typeof EXCLUDED | undefined;
  readonly reason: string;
}

/**
 * QEMU leaves nothing out because it is zero: with paging=true its segment of a linear mapping that spans a hole in RAM
 * has the file bytes of the first RAM block alone (dump/dump.c, get_offset_range), and the rest is anything but zero.
 * Otherwise its segments have all of their bytes, and so have those of the kernel's /proc/vmcore: where they do not,
 * makedumpfile -E wrote the file, which keeps the notes. It can filter by kind of page with the VMCOREINFO note, and only
 * leave out zero pages without one (or with the kernel's debug information, `-x`). Of other files, what ELF says holds.
 */
function tailsOf(notes: Notes, linear: boolean, zeroExcluded: boolean): Tails {
  // VirtualBox's segments have all of their bytes, too.
  const qemu = notes.cpus.length > 0 && notes.vbox === undefined;
  if (notes.own !== undefined)
    return { kind: EXCLUDED, reason: "pages that the dump lacked which this one was made of" };
  if (qemu && linear) return { kind: undefined, reason: "" };
  if (zeroExcluded) return { kind: ZERO, reason: "pages that are zero, as given" };
  if (notes.vmcoreinfo !== undefined) {
    return { kind: EXCLUDED, reason: "pages that makedumpfile filtered: what was in them is unknown" };
  }
  const writer = qemu ? "makedumpfile filtered, which without VMCOREINFO are zero" : "are zero (p_memsz)";
  return { kind: ZERO, reason: `pages that ${writer}` };
}

interface ElfHeader {
  readonly header: DataView;
  readonly layout: ElfLayout;
  readonly machine: DumpMachine;
}

/** Reads the ELF header. Throws a DumpError unless it is that of a core file of an x86 machine. */
export function readElfHeader(source: ByteSource): ElfHeader {
  const ident = readExactly(source, 0, 16, "an ELF header");
  const elfClass = ident.getUint8(4);
  if (elfClass !== ELFCLASS32 && elfClass !== ELFCLASS64) {
    throw new DumpError(source.name, 4, `expected ELF class 1 (32-bit) or 2 (64-bit), found ${elfClass}`);
  }
  const byteOrder = ident.getUint8(5);
  if (byteOrder !== ELFDATA2LSB) {
    throw new DumpError(source.name, 5, `expected ELF data encoding 1 (little endian), found ${byteOrder}`);
  }
  const layout = elfClass === ELFCLASS64 ? ELF64 : ELF32;
  const header = readExactly(source, 0, layout.headerSize, `an ELF${layout.bits} header`);
  const type = header.getUint16(16, true);
  if (type !== ET_CORE) throw new DumpError(source.name, 16, `expected ELF type 4 (core file), found ${type}`);
  const machine = header.getUint16(18, true);
  if (machine !== EM_X86_64 && machine !== EM_386) {
    throw new DumpError(source.name, 18, `expected ELF machine 62 (x86-64) or 3 (i386), found ${machine}`);
  }
  return { header, layout, machine: machine === EM_X86_64 ? "x86_64" : "i386" };
}

interface ProgramHeaderTable {
  readonly offset: number;
  readonly count: number;
  readonly entrySize: number;
}

function locateProgramHeaders(source: ByteSource, header: DataView, layout: ElfLayout): ProgramHeaderTable {
  const word = (view: DataView, at: number) => (layout.bits === 64 ? u64(view, at) : view.getUint32(at, true));
  const offset = word(header, layout.phoff);
  const entrySize = header.getUint16(layout.phentsize, true);
  let count = header.getUint16(layout.phnum, true);
  if (count === PN_XNUM) {
    const sections = word(header, layout.shoff);
    if (sections === 0) {
      throw new DumpError(
        source.name,
        layout.shoff,
        "e_phnum is PN_XNUM: expected section header 0 with the number of program headers, found no section headers",
      );
    }
    const what = "section header 0 with the number of program headers";
    count = readExactly(source, sections, layout.sectionHeaderSize, what).getUint32(layout.shInfo, true);
  }
  if (count === 0) throw new DumpError(source.name, layout.phnum, "expected program headers, found none");
  if (entrySize < layout.programHeaderSize) {
    const least = layout.programHeaderSize;
    throw new DumpError(
      source.name,
      layout.phentsize,
      `expected program headers of ${least} bytes or more, found e_phentsize ${entrySize}`,
    );
  }
  if (count > MAX_PROGRAM_HEADERS) {
    const limit = MAX_PROGRAM_HEADERS;
    throw new DumpError(source.name, layout.phnum, `expected at most ${limit} program headers, found ${count}`);
  }
  if (count * entrySize > MAX_TABLE) {
    throw new DumpError(
      source.name,
      layout.phentsize,
      `expected program headers of ${MAX_TABLE} bytes at most, found ${count} of ${entrySize} bytes each`,
    );
  }
  if (offset + count * entrySize > source.size) {
    throw new DumpError(
      source.name,
      offset,
      `expected ${count} program headers of ${entrySize} bytes, but the file ends at 0x${source.size.toString(16)}`,
    );
  }
  return { offset, count, entrySize };
}

function readProgramHeaders(
  source: ByteSource,
  layout: ElfLayout,
  table: ProgramHeaderTable,
): { declared: DeclaredMemory; noteSegments: FilePart[]; segments: number; linear: boolean } {
  const declared = new DeclaredMemory();
  const noteSegments: FilePart[] = [];
  const allOnes = layout.bits === 64 ? 2 ** 64 : 2 ** 32 - 1;
  let segments = 0;
  let addressed = 0;
  let linear = false;
  const perChunk = Math.max(1, Math.floor(TABLE_CHUNK / table.entrySize));
  for (let first = 0; first < table.count; first += perChunk) {
    const count = Math.min(perChunk, table.count - first);
    const chunkAt = table.offset + first * table.entrySize;
    const chunk = readExactly(source, chunkAt, count * table.entrySize, "program headers");
    for (let i = 0; i < count; i++) {
      const base = i * table.entrySize;
      const type = chunk.getUint32(base, true);
      if (type !== PT_LOAD && type !== PT_NOTE) continue;
      const field = (at: number) => (layout.bits === 64 ? u64(chunk, base + at) : chunk.getUint32(base + at, true));
      const offset = field(layout.pOffset);
      const fileSize = field(layout.pFilesz);
      const at = chunkAt + base;
      const number = first + i;
      if (type === PT_NOTE) {
        if (fileSize > 0) noteSegments.push({ offset, size: fileSize, at });
        continue;
      }
      segments++;
      const physical = field(layout.pPaddr);
      // /proc/kcore and kdump mark segments that have only a linear address so.
      if (physical >= allOnes) continue;
      // p_memsz 0 beside a p_filesz means that the writer left it out.
      const memorySize = field(layout.pMemsz) || fileSize;
      if (fileSize > memorySize) {
        throw new DumpError(source.name, at, `segment ${number}: expected p_filesz of at most p_memsz, found more`);
      }
      if (physical + memorySize > PHYSICAL_LIMIT) {
        throw new DumpError(
          source.name,
          at,
          `segment ${number}: expected physical addresses below 2^52, found 0x${physical.toString(16)} ` +
            `+ 0x${memorySize.toString(16)}`,
        );
      }
      const virtual = field(layout.pVaddr);
      if (physical !== 0 || virtual === 0) addressed++;
      // Without paging=true QEMU writes 0 or the physical address.
      if (virtual > physical) linear = true;
      declared.inFile.addCut(physical, fileSize, offset, source.size - offset);
      // QEMU writes p_offset -1 for a linear mapping of something that is no RAM: it is not in the dump.
      if (memorySize > fileSize && offset < allOnes) declared.addTail(physical + fileSize, memorySize - fileSize);
    }
  }
  if (segments > 1 && addressed === 0) {
    throw new DumpError(
      source.name,
      table.offset,
      "expected segments with physical addresses, found none: this is the core of a process, not of a machine",
    );
  }
  return { declared, noteSegments, segments, linear };
}

/** What the program headers declare. */
class DeclaredMemory {
  readonly inFile = new ExtentList();
  readonly #tails = new ExtentList();
  tailBytes = 0;

  addTail(gpa: number, size: number): void {
    this.#tails.add(gpa, size, ZERO);
    this.tailBytes += size;
  }

  /** All of it, the memory without bytes being of this kind. */
  withTails(kind: Tails["kind"]): ExtentList {
    if (kind !== undefined) {
      for (let i = 0; i < this.#tails.length; i++) {
        this.inFile.add(this.#tails.gpa(i), this.#tails.end(i) - this.#tails.gpa(i), kind);
      }
    }
    return this.inFile;
  }
}

/** A 64-bit field as a number: exact below 2^53, and never less than 2^53 for what is not. 2^64-1 gives 2^64. */
function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
