/**
 * The headers of Microsoft's crash dumps (DUMP_HEADER32 and DUMP_HEADER64 of the Windows SDK, as QEMU's win_dump_defs.h,
 * volatility and kdmp-parser have them).
 */
import { type ByteSource, readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";

const SIGNATURE = "PAGE";
const VALID_32 = "DUMP";
const VALID_64 = "DU64";
/** MachineImageType. */
const IMAGE_I386 = 0x14c;
const IMAGE_AMD64 = 0x8664;
const PAGE = 4096;

interface HeaderLayout {
  readonly bits: 32 | 64;
  readonly directoryTableBase: number;
  readonly machine: number;
  readonly processors: number;
  readonly bugCheck: number;
  /** 64-bit Windows has no other paging. */
  readonly paeEnabled: number | undefined;
  readonly physicalMemory: number;
  readonly dumpType: number;
  readonly bytes: number;
}

const HEADER_32: HeaderLayout = {
  bits: 32,
  directoryTableBase: 0x10,
  machine: 0x20,
  processors: 0x24,
  bugCheck: 0x28,
  paeEnabled: 0x5c,
  physicalMemory: 0x64,
  dumpType: 0xf88,
  bytes: 0x1000,
};
const HEADER_64: HeaderLayout = {
  bits: 64,
  directoryTableBase: 0x10,
  machine: 0x30,
  processors: 0x34,
  bugCheck: 0x38,
  paeEnabled: undefined,
  physicalMemory: 0x88,
  dumpType: 0xf98,
  bytes: 0x2000,
};

/** PHYSICAL_MEMORY_DESCRIPTOR: number of runs, number of pages, runs of a first page and a count, in 700 bytes. */
const RUNS_32 = { word: 4, count: 0, runs: 8 } as const;
const RUNS_64 = { word: 8, count: 0, runs: 16 } as const;
const RUNS_BYTES = 700;
/** What is not filled in repeats the signature. */
const UNFILLED = 0x4547_4150;

/** What is said of the types that are not read: what they have, and a way on. */
const TYPE_NAMES: Readonly<Record<number, string>> = {
  2: "a kernel memory dump in the summary format, which has kernel pages alone",
  3: "a header without memory",
  4: "a small memory dump (triage), which has no physical memory",
  7: "an automatic memory dump, which has kernel pages alone",
  8: "a live kernel memory dump",
  9: "a live dump of kernel and user memory",
  10: "a live complete memory dump",
};
const WAY_ON = "a complete memory dump by Windows can be read, or an ELF core by the hypervisor";

export const FULL = 1;
export const BITMAP_FULL = 5;
export const BITMAP_KERNEL = 6;

/** Pages that follow each other. */
export interface Run {
  readonly firstPage: number;
  readonly pages: number;
}

export interface MsHeader {
  readonly bits: 32 | 64;
  readonly type: typeof FULL | typeof BITMAP_FULL | typeof BITMAP_KERNEL;
  readonly cr3: bigint;
  readonly pae: boolean;
  readonly processors: number;
  readonly bugCheck: number;
  /** Physical memory of the machine; undefined where the header does not have it. */
  readonly runs: readonly Run[] | undefined;
  /** Where the header ends. */
  readonly bytes: number;
}

export function isMsDump(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, 8));
  return text === SIGNATURE + VALID_32 || text === SIGNATURE + VALID_64;
}

/** Reads the header. Throws a DumpError for another machine, and for types that have no physical memory to read. */
export function readMsHeader(source: ByteSource): MsHeader {
  const signature = new Uint8Array(readExactly(source, 0, 8, "the signature of a crash dump").buffer);
  const layout = String.fromCharCode(...signature.subarray(4)) === VALID_64 ? HEADER_64 : HEADER_32;
  const { bits } = layout;
  const view = readExactly(source, 0, layout.bytes, `a crash dump header of ${bits} bits`);
  const machine = view.getUint32(layout.machine, true);
  const expected = bits === 64 ? IMAGE_AMD64 : IMAGE_I386;
  if (machine !== expected) {
    const [wanted, found] = [expected, machine].map((one) => `0x${one.toString(16)}`);
    throw new DumpError(source.name, layout.machine, `expected machine ${wanted} (${bits}-bit x86), found ${found}`);
  }
  const type = view.getUint32(layout.dumpType, true);
  if (type !== FULL && type !== BITMAP_FULL && type !== BITMAP_KERNEL) {
    const name = TYPE_NAMES[type];
    const found = name === undefined ? `found type ${type}` : `found type ${type}: ${name} (${WAY_ON})`;
    throw new DumpError(source.name, layout.dumpType, `expected a crash dump of type 1, 5 or 6, ${found}`);
  }
  const root = layout.directoryTableBase;
  return {
    bits,
    type,
    cr3: bits === 64 ? view.getBigUint64(root, true) : BigInt(view.getUint32(root, true)),
    pae: layout.paeEnabled !== undefined && view.getUint8(layout.paeEnabled) !== 0,
    processors: view.getUint32(layout.processors, true),
    bugCheck: view.getUint32(layout.bugCheck, true),
    runs: readRuns(source, view, layout),
    bytes: layout.bytes,
  };
}

function readRuns(source: ByteSource, view: DataView, { bits, physicalMemory: at }: HeaderLayout): Run[] | undefined {
  const { word, count: countAt, runs: runsAt } = bits === 64 ? RUNS_64 : RUNS_32;
  const count = view.getUint32(at + countAt, true);
  if (count === UNFILLED || count === 0) return undefined;
  const most = Math.floor((RUNS_BYTES - runsAt) / (2 * word));
  if (count > most) throw new DumpError(source.name, at, `expected at most ${most} runs of memory, found ${count}`);
  const number = (offset: number) =>
    word === 8
      ? view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true)
      : view.getUint32(offset, true);
  const runs: Run[] = [];
  for (let i = 0; i < count; i++) {
    const runAt = at + runsAt + i * 2 * word;
    const run = { firstPage: number(runAt), pages: number(runAt + word) };
    const before = runs[runs.length - 1];
    if ((run.firstPage + run.pages) * PAGE > 2 ** 52 || (before && run.firstPage < before.firstPage + before.pages)) {
      const found = `found ${run.pages} pages from 0x${run.firstPage.toString(16)} on`;
      throw new DumpError(source.name, runAt, `expected ascending runs of memory below 2^52, ${found}`);
    }
    runs.push(run);
  }
  return runs;
}
