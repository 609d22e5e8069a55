/** Opens a dump from any byte source: finds out the format, reads the headers, no memory. */
import type { PageSource } from "../api.js";
import type { WebAbortSignal } from "../platform.js";
import type { ByteSource } from "./bytes/byte-source.js";
import { DumpError } from "./bytes/errors.js";
import type { Codecs } from "./codec/codec.js";
import type { Dump } from "./dump.js";
import type { DumpContent } from "./formats/content.js";
import { readContent, seemingFormat } from "./formats/formats.js";
import { isRaw, type RawOptions, readRaw } from "./formats/raw.js";
import type { MemoryRange } from "./memory/presence.js";

export interface OpenDumpOptions extends RawOptions {
  /**
   * A compressed dump that inflates to more bytes than this is refused. Default: 4 GiB, of which 1 GiB in pages that
   * are not all zero, or 64 and 16 times the compressed size where that is more.
   */
  readonly maxInflated?: number;
  /**
   * Pages that the dump's writer left out are all zero. Default: where the dump says so (makedumpfile's level 1), or where
   * its writer can do no other (makedumpfile without VMCOREINFO).
   */
  readonly zeroExcluded?: boolean;
  /** Ends the opening: it rejects with the signal's reason, and what was open is closed. Asked while a file is inflated or fetched. */
  readonly signal?: WebAbortSignal;
}

/** What `openDump` takes besides what users give. */
export interface OpenSourceOptions extends OpenDumpOptions {
  /** The other files of a split dump. */
  readonly parts?: readonly ByteSource[];
  /** Decompressors of pages (`loadCodecs`). */
  readonly codecs?: Codecs;
  /** What goes through a whole file keeps its place here, by the source, where opening is interrupted and tried again. */
  readonly progress?: Map<ByteSource, unknown>;
  /** Said of a source that was inflated; set by the functions that inflate. */
  readonly compressed?: boolean;
  /** Said before what the dump itself says. */
  readonly warnings?: readonly string[];
  /** Called when the dump is closed. */
  readonly onClose?: () => void;
}

/**
 * Opens a dump: ELF core, kdump, LiME, AVML, or raw where the options say so (RawOptions). Headers and notes are checked whole;
 * memory is read page by page on demand.
 * Throws a DumpError, of which a CodecsNeededError says which decompressors the pages need; a source that is compressed
 * as a whole must be inflated by the caller (see node.ts and browser.ts).
 */
export function openDump(source: ByteSource, options: OpenSourceOptions = {}): Dump {
  const content = contentOf(source, options);
  const { memory } = content;
  let ranges: readonly MemoryRange[] | undefined;
  return {
    ...content,
    name: source.name,
    compressed: options.compressed ?? false,
    // There may be a million of them.
    get ranges() {
      ranges ??= memory.ranges();
      return ranges;
    },
    facts: [...content.facts, ...memoryFacts(content)],
    warnings: [...(options.warnings ?? []), ...content.warnings],
    pageSource: memory,
    tableSource: tablesOf(content),
    presence: (gpa, size) => memory.presence(gpa, size),
    touches: (gpa, size) => memory.presence(gpa, size) === "held",
    close: () => options.onClose?.(),
  };
}

function contentOf(source: ByteSource, options: OpenSourceOptions): DumpContent {
  const { parts = [], codecs = {}, progress = new Map(), zeroExcluded = false } = options;
  if (!isRaw(options)) return readContent(source, { parts, codecs, progress, zeroExcluded });
  if (source.size === 0) throw new DumpError(source.name, 0, "expected a memory dump, found an empty file");
  if (parts.length > 0) {
    throw new DumpError(source.name, undefined, "expected a split kdump where there are parts, found raw memory");
  }
  const content = readRaw(source, options);
  const title = seemingFormat(source);
  if (title === undefined) return content;
  return { ...content, warnings: [`it begins as ${title} does, and is read as raw memory all the same`] };
}

function memoryFacts({ memory }: DumpContent): { label: string; value: string }[] {
  const text = ({ bytes, ranges }: { bytes: number; ranges: number }) =>
    `${bytes} bytes in ${ranges} range${ranges === 1 ? "" : "s"}`;
  const facts = [{ label: "memory", value: text(memory.held) }];
  const { excluded, cut } = memory.lacking;
  if (excluded.bytes > 0) facts.push({ label: "excluded", value: `${text(excluded)}: what was in them is unknown` });
  if (cut.bytes > 0) facts.push({ label: "missing", value: `${text(cut)}: the file does not have them` });
  return facts;
}

function tablesOf({ memory, excludedTablesAreZero }: DumpContent): PageSource {
  if (!excludedTablesAreZero || memory.lacking.excluded.bytes === 0) return memory;
  return {
    readPage(gfn, into) {
      if (memory.readPage(gfn, into)) return true;
      if (memory.presence(gfn * 4096n, 4096n) !== "excluded") return false;
      into.fill(0);
      return true;
    },
  };
}
