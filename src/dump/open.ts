/** Opens a dump from any byte source: finds out the format, reads the headers, no memory. */
import type { ByteSource } from "./byte-source.js";
import type { Dump, DumpFact, DumpFormat, DumpMachine } from "./dump.js";
import { isElf, readElfCore } from "./elf.js";
import { DumpError } from "./errors.js";
import { type Extent, ExtentMap } from "./extents.js";
import { isLime, readLime } from "./lime.js";
import type { Notes } from "./notes.js";

export interface OpenDumpOptions {
  /**
   * Read the file as raw memory: its first byte is at this guest-physical address, from 0 to 2^52.
   * Without it the format is found out from the file's first bytes.
   */
  readonly rawOffset?: bigint;
  /** Said of a source that was inflated; set by the functions that inflate. */
  readonly compressed?: boolean;
  /** Called when the dump is closed. */
  readonly onClose?: () => void;
}

interface Content {
  readonly format: DumpFormat;
  readonly machine: DumpMachine | undefined;
  readonly extents: readonly Extent[];
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
  const ranges = map.ranges();
  const facts = [...content.facts];
  const bytes = ranges.reduce((sum, range) => sum + range.size, 0n);
  facts.push({ label: "memory", value: `${bytes} bytes in ${ranges.length} range${ranges.length === 1 ? "" : "s"}` });
  if (map.overlapping) facts.push({ label: "segments", value: "some overlap; the first that has the bytes counts" });
  const { notes } = content;
  return {
    name: source.name,
    format: content.format,
    compressed: options.compressed ?? false,
    machine: content.machine,
    cpus: notes?.cpus ?? [],
    prstatusCount: notes?.prstatusCount ?? 0,
    vmcoreinfo: notes?.vmcoreinfo,
    ranges,
    facts,
    pageSource: map,
    touches: (gpa, size) => map.touches(gpa, size),
    close: () => options.onClose?.(),
  };
}

function readContent(source: ByteSource, options: OpenDumpOptions): Content {
  if (source.size === 0) throw new DumpError(source.name, 0, "expected a memory dump, found an empty file");
  if (options.rawOffset !== undefined) return readRaw(source, options.rawOffset);
  const head = new Uint8Array(Math.min(16, source.size));
  source.read(0, head);
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

function readRaw(source: ByteSource, gpa: bigint): Content {
  if (gpa < 0n || gpa + BigInt(source.size) > 1n << 52n) {
    throw new DumpError(
      source.name,
      undefined,
      `expected raw memory below physical address 2^52, found 0x${source.size.toString(16)} bytes at 0x${gpa.toString(16)}`,
    );
  }
  return {
    format: "raw",
    machine: undefined,
    extents: [{ gpa: Number(gpa), size: source.size, offset: 0 }],
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
