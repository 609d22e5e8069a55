/** Opens a dump from any byte source: finds out the format, reads the headers, no memory. */
import { type ByteSource, readExactly } from "./byte-source.js";
import type { Dump, DumpFact, DumpFormat, DumpMachine } from "./dump.js";
import { isElf, readElfCore, readElfHeader } from "./elf.js";
import { DumpError } from "./errors.js";
import { ExtentList } from "./extent-list.js";
import { ExtentMap, type MemoryRange } from "./extents.js";
import { isLime, readLime } from "./lime.js";
import type { Notes } from "./notes.js";

export interface OpenDumpOptions {
  /**
   * Read the file as raw memory: its first byte is at this guest-physical address, from 0 to 2^52.
   * Without it the format is found out from the file's first bytes.
   */
  readonly rawOffset?: bigint;
  /**
   * A compressed dump that inflates to more bytes than this is refused. Default: 4 GiB, of which 1 GiB in pages that
   * are not all zero, or 64 and 16 times the compressed size where that is more.
   */
  readonly maxInflated?: number;
  /** Said of a source that was inflated; set by the functions that inflate. */
  readonly compressed?: boolean;
  /** Called when the dump is closed. */
  readonly onClose?: () => void;
}

interface Content {
  readonly format: DumpFormat;
  readonly machine: DumpMachine | undefined;
  readonly extents: ExtentList;
  readonly notes: Notes | undefined;
  readonly facts: readonly DumpFact[];
}

/**
 * Opens a dump: ELF core, LiME, or raw where `rawOffset` is given. Headers and notes are checked whole, so that
 * a dump that opens does not fail later; memory is read page by page on demand.
 * Throws a DumpError; a gzip source must be inflated by the caller (see node.ts and browser.ts).
 */
export function openDump(source: ByteSource, options: OpenDumpOptions = {}): Dump {
  const content = readContent(source, options);
  const map = new ExtentMap(source, content.extents);
  const facts = [...content.facts];
  const { bytes, rangeCount } = map;
  facts.push({ label: "memory", value: `${bytes} bytes in ${rangeCount} range${rangeCount === 1 ? "" : "s"}` });
  if (map.overlapping) facts.push({ label: "segments", value: "some overlap; the first that has the bytes counts" });
  const { notes } = content;
  let ranges: readonly MemoryRange[] | undefined;
  return {
    name: source.name,
    format: content.format,
    compressed: options.compressed ?? false,
    machine: content.machine,
    cpus: notes?.cpus ?? [],
    prstatusCount: notes?.prstatusCount ?? 0,
    vmcoreinfo: notes?.vmcoreinfo,
    // There may be a million of them.
    get ranges() {
      ranges ??= map.ranges();
      return ranges;
    },
    facts,
    pageSource: map,
    touches: (gpa, size) => map.touches(gpa, size),
    close: () => options.onClose?.(),
  };
}

function readContent(source: ByteSource, options: OpenDumpOptions): Content {
  if (source.size === 0) throw new DumpError(source.name, 0, "expected a memory dump, found an empty file");
  if (options.rawOffset !== undefined) return readRaw(source, options.rawOffset);
  const head = headOf(source);
  if (isElf(head)) {
    const core = readElfCore(source);
    return {
      format: "elf",
      machine: core.machine,
      extents: core.extents,
      notes: core.notes,
      facts: [
        {
          label: "format",
          value: `ELF${core.bits} core, machine ${core.machine}, ${core.segments} memory segments`,
        },
      ],
    };
  }
  if (isLime(head)) {
    const extents = readLime(source);
    const facts = [{ label: "format", value: `LiME, ${extents.length} ranges` }];
    return { format: "lime", machine: undefined, extents, notes: undefined, facts };
  }
  throw new DumpError(source.name, 0, refusal(head));
}

/** Bytes of a dump that `checkFirstBytes` wants to see. */
export const FIRST_BYTES = 4096;

/**
 * Decides by the first FIRST_BYTES of a dump that is not raw whether it is worth inflating the rest.
 * Throws the DumpError with which `openDump` would end.
 */
export function checkFirstBytes(source: ByteSource): void {
  const head = headOf(source);
  if (isElf(head)) readElfHeader(source);
  else if (!isLime(head)) throw new DumpError(source.name, 0, refusal(head));
}

function headOf(source: ByteSource): Uint8Array {
  return new Uint8Array(readExactly(source, 0, Math.min(16, source.size), "the first bytes").buffer);
}

function readRaw(source: ByteSource, gpa: bigint): Content {
  if (gpa < 0n || gpa + BigInt(source.size) > 1n << 52n) {
    throw new DumpError(
      source.name,
      undefined,
      `expected raw memory below physical address 2^52, found 0x${source.size.toString(16)} bytes at 0x${gpa.toString(16)}`,
    );
  }
  const extents = new ExtentList();
  extents.add(Number(gpa), source.size, 0);
  return {
    format: "raw",
    machine: undefined,
    extents,
    notes: undefined,
    facts: [{ label: "format", value: `raw memory at 0x${gpa.toString(16)}` }],
  };
}

/** Why a file is refused by its first bytes. */
function refusal(head: Uint8Array): string {
  const text = String.fromCharCode(...head);
  if (text.startsWith("makedumpfile")) {
    return "expected a dump with random access, found a flattened kdump: rearrange it with `makedumpfile -R` first";
  }
  if (text.startsWith("KDUMP   ") || text.startsWith("DISKDUMP")) {
    return "expected an ELF core, LiME or raw dump, found a compressed kdump: make an ELF core of it with `makedumpfile -E`";
  }
  if (head[0] === 0x1f && head[1] === 0x8b) {
    return "expected an ELF core, LiME or raw dump, found gzip inside gzip";
  }
  const found = Array.from(head.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `expected an ELF core, a LiME dump or gzip, found ${found} (give the address of the first byte to read raw memory)`;
}
