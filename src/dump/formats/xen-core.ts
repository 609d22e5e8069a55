/** Xen's dump-core files (xl dump-core): an ELF file of sections, one with the pages and one with their frame numbers. */
import { type ByteSource, readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import type { DumpContent } from "./content.js";
import { isElf, readElfHeader } from "./elf.js";
import type { Format, ReadContext } from "./format.js";
import { cutWarnings } from "./warnings.js";
import { hasSectionsOnly, readXenHeader, type Section, type XenHeader } from "./xen-sections.js";
import { readXenVcpus } from "./xen-vcpus.js";

const PAGE = 4096;
/** Physical addresses of x86 have at most 52 bits. */
const MOST_FRAMES = 2 ** 40;
/** More runs of pages that follow each other in memory and in the file are refused: each takes memory. */
const MOST_RUNS = 2 ** 21;
/** Frame numbers that are read at once, in bytes. */
const CHUNK = 2 ** 18;
/** Of no page: both words are all ones. */
const INVALID = 2 ** 32 - 1;

/** Entries of the sections that have the frame numbers. */
const PFN_ENTRY = { bytes: 8, frame: 0 } as const;
/** struct xen_dumpcore_p2m: the guest's number, and the machine's. */
const P2M_ENTRY = { bytes: 16, frame: 8 } as const;

export const XEN_CORE: Format = {
  title: "a Xen core",
  matches: (head) => isElf(head) && hasSectionsOnly(head),
  check: (source) => {
    readElfHeader(source);
  },
  read: readXenCore,
};

/**
 * Reads sections, notes, registers and frame numbers; no page is read. The memory of a paravirtualized guest has
 * machine addresses, because its page tables do.
 */
function readXenCore(source: ByteSource, { progress }: ReadContext): DumpContent {
  const { header: elf, machine } = readElfHeader(source);
  const header = readXenHeader(source, elf);
  let frames = progress.get(source);
  if (!(frames instanceof FrameScan)) {
    frames = new FrameScan(source, header);
    progress.set(source, frames);
  }
  const { extents, byMachine } = (frames as FrameScan).run();
  const memory = new ExtentMap(source, extents);
  if (memory.held.bytes === 0) throw new DumpError(source.name, undefined, "expected pages in a Xen core, found none");
  const { cpus, warnings } = readXenVcpus(source, header, machine);
  const bits = machine === "x86_64" ? 64 : 32;
  const kind = header.paravirtual ? "paravirtualized" : "fully virtualized (HVM or PVH)";
  const facts = [{ label: "format", value: `Xen core of a ${kind} guest, ${header.pages} pages` }];
  if (byMachine)
    facts.push({ label: "addresses", value: "machine addresses, as the page tables of the guest have them" });
  if (memory.overlapping) facts.push({ label: "pages", value: "some are there twice; the first counts" });
  return {
    format: "xen",
    machine,
    longMode: header.paravirtual
      ? { active: bits === 64, reason: `a paravirtualized guest of ${bits} bits has LMA=${bits === 64 ? 1 : 0}` }
      : undefined,
    memory,
    excludedTablesAreZero: false,
    cpus,
    prstatusCount: 0,
    vmcoreinfo: undefined,
    facts,
    warnings: [...warnings, ...cutWarnings(source, memory)],
  };
}

/** Goes through the frame numbers; may be continued where it was interrupted. */
class FrameScan {
  readonly #source: ByteSource;
  readonly #pagesAt: number;
  readonly #count: number;
  readonly #table: Section;
  readonly #entry: typeof PFN_ENTRY | typeof P2M_ENTRY;
  readonly #extents = new ExtentList();
  #next = 0;
  /** The run that the last page belongs to: its first frame, the page of the file it is, and its length. */
  #first = 0;
  #firstPage = 0;
  #length = 0;

  constructor(source: ByteSource, header: XenHeader) {
    this.#source = source;
    const need = (name: string): Section => {
      const section = header.sections.get(name);
      if (section !== undefined) return section;
      throw new DumpError(source.name, undefined, `expected the section ${name} in a Xen core, found none`);
    };
    const pages = need(".xen_pages");
    this.#entry = header.sections.has(".xen_p2m") && header.paravirtual ? P2M_ENTRY : PFN_ENTRY;
    this.#table = need(this.#entry === P2M_ENTRY ? ".xen_p2m" : ".xen_pfn");
    this.#pagesAt = pages.offset;
    this.#count = header.pages;
    const least = [
      [".xen_pages", pages, PAGE],
      ["frame numbers", this.#table, this.#entry.bytes],
    ] as const;
    for (const [what, { offset, size }, each] of least) {
      if (size >= header.pages * each) continue;
      const found = `found ${size}`;
      throw new DumpError(source.name, offset, `expected ${header.pages * each} bytes of ${what} or more, ${found}`);
    }
  }

  run(): { readonly extents: ExtentList; readonly byMachine: boolean } {
    const perChunk = CHUNK / this.#entry.bytes;
    while (this.#next < this.#count) {
      const count = Math.min(perChunk, this.#count - this.#next);
      const at = this.#table.offset + this.#next * this.#entry.bytes;
      const chunk = readExactly(this.#source, at, count * this.#entry.bytes, "the frame numbers of pages");
      for (let i = 0; i < count; i++) this.#take(chunk, i * this.#entry.bytes, at);
      this.#next += count;
    }
    this.#close();
    return { extents: this.#extents, byMachine: this.#entry === P2M_ENTRY };
  }

  #take(chunk: DataView, offset: number, chunkAt: number): void {
    const page = this.#next + offset / this.#entry.bytes;
    const low = chunk.getUint32(offset + this.#entry.frame, true);
    const high = chunk.getUint32(offset + this.#entry.frame + 4, true);
    // The page is padding.
    if (low === INVALID && high === INVALID) return;
    const frame = high * 2 ** 32 + low;
    if (frame >= MOST_FRAMES) {
      const found = `found 0x${frame.toString(16)}`;
      throw new DumpError(this.#source.name, chunkAt + offset, `expected a frame number below 2^40, ${found}`);
    }
    if (this.#length > 0 && frame === this.#first + this.#length && page === this.#firstPage + this.#length) {
      this.#length++;
      return;
    }
    this.#close();
    this.#first = frame;
    this.#firstPage = page;
    this.#length = 1;
  }

  #close(): void {
    if (this.#length === 0) return;
    if (this.#extents.length >= MOST_RUNS) {
      throw new DumpError(this.#source.name, undefined, `expected at most ${MOST_RUNS} runs of pages, found more`);
    }
    const offset = this.#pagesAt + this.#firstPage * PAGE;
    this.#extents.addCut(this.#first * PAGE, this.#length * PAGE, offset, this.#source.size - offset);
    this.#length = 0;
  }
}
