/** ELF notes of memory dumps: which processors there are and what is in their control registers. */
import type { ByteSource } from "./byte-source.js";
import { readExactly } from "./byte-source.js";
import type { DumpCpu } from "./dump.js";
import { DumpError } from "./errors.js";

/** Note segments larger than this (bytes) are refused; a note segment of 4,096 QEMU processors has 3.3 MB. */
const MAX_NOTES = 64 * 2 ** 20;

const NT_PRSTATUS = 1;
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
  vmcoreinfo: string | undefined;
}

/** Reads one PT_NOTE segment and adds what it says to `notes`. Throws a DumpError for notes that are cut off or malformed. */
export function readNotes(source: ByteSource, offset: number, size: number, notes: Notes): void {
  if (size > MAX_NOTES) {
    throw new DumpError(source.name, offset, `expected notes of at most ${MAX_NOTES} bytes, found ${size}`);
  }
  const view = readExactly(source, offset, size, "the notes");
  const broken = (at: number, problem: string) => new DumpError(source.name, offset + at, `broken note: ${problem}`);
  let at = 0;
  while (at < size) {
    if (size - at < 12) {
      if (isZero(view, at, size)) return;
      throw broken(at, `expected a note header (12 bytes), found ${size - at} bytes`);
    }
    const nameSize = view.getUint32(at, true);
    const descSize = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const nameAt = at + 12;
    const descAt = nameAt + align4(nameSize);
    if (descAt + descSize > size) {
      throw broken(
        at,
        `a name of ${nameSize} and a description of ${descSize} bytes do not fit into ${size - at} bytes`,
      );
    }
    const name = text(view, nameAt, nameSize);
    if (name === "CORE" && type === NT_PRSTATUS) {
      notes.prstatusCount++;
    } else if (name === "QEMU" && type === QEMU_NOTE_TYPE) {
      const version = descSize >= 8 ? view.getUint32(descAt, true) : undefined;
      const declared = descSize >= 8 ? view.getUint32(descAt + 4, true) : 0;
      if (version === undefined || declared > descSize || declared < QEMU_NOTE.leastSize) {
        const least = QEMU_NOTE.leastSize;
        throw broken(descAt, `expected a QEMU processor state of ${least} to ${descSize} bytes, found ${declared}`);
      }
      if (version !== QEMU_NOTE.version) {
        throw broken(descAt, `expected QEMU processor state version ${QEMU_NOTE.version}, found ${version}`);
      }
      const u64 = (field: number) => view.getBigUint64(descAt + field, true);
      notes.cpus.push({
        index: notes.cpus.length,
        cr0: u64(QEMU_NOTE.cr0),
        cr2: u64(QEMU_NOTE.cr2),
        cr3: u64(QEMU_NOTE.cr3),
        cr4: u64(QEMU_NOTE.cr4),
        rip: u64(QEMU_NOTE.rip),
        rflags: u64(QEMU_NOTE.rflags),
        cpl: view.getUint32(descAt + QEMU_NOTE.csSelector, true) & 3,
      });
    } else if (name === "VMCOREINFO") {
      notes.vmcoreinfo = text(view, descAt, descSize);
    }
    at = descAt + align4(descSize);
  }
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function isZero(view: DataView, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (view.getUint8(i) !== 0) return false;
  return true;
}

/** Bytes as text, without the NULs at the end. */
function text(view: DataView, offset: number, length: number): string {
  return new TextDecoder("latin1")
    .decode(new Uint8Array(view.buffer, view.byteOffset + offset, length))
    .replace(/\0+$/, "");
}
