/** Finds the address spaces in a dump without symbols: pages that are roots of page tables. */
import { checkInteger } from "../checks.js";
import type { Dump } from "./dump.js";
import type { FoundSpace } from "./found-space.js";
import { HeldPages } from "./held-pages.js";
import { SpaceJudge } from "./space-judge.js";
import { TableReader } from "./tables/table-reader.js";
import { type InspectedMode, SHAPES } from "./tables/table-shape.js";
import { ZeroPages } from "./tables/zero-pages.js";
import { type KernelRoot, kernelRoot } from "./vmcoreinfo.js";

const PAGE = 4096;

const MODES: readonly InspectedMode[] = ["5level", "4level", "pae", "32bit"];

/** What a scan for address spaces may know beforehand. */
export interface SpaceScanOptions {
  /** Paging modes to look for. Default: that of VMCOREINFO, where a note has it, else all. */
  readonly modes?: readonly InspectedMode[];
  /** The bit of entries that says that a page is encrypted. Default: none. */
  readonly encryptionMask?: bigint;
  /** The kernel's own root. Default: what VMCOREINFO says, where a note has it. */
  readonly kernelRoot?: bigint;
}

/**
 * Goes through every page that a dump holds, in pieces. A page is a root if all that is below it can be page tables, and if it maps
 * itself, as systems that map all of memory do, or points to itself. Over a source whose bytes have to be fetched, `step` and
 * `spaces` may be called again where they were interrupted.
 */
export class SpaceScan {
  readonly #dump: Dump;
  readonly #readers: readonly TableReader[];
  readonly #page = new Uint8Array(PAGE);
  readonly #words = new Uint32Array(this.#page.buffer);
  readonly #candidates = new Map<TableReader, number[]>();
  readonly #kernelRoot: number;
  readonly #pages: HeldPages;
  /** Of guests' memory most is: what is taken for a table need not be read again. */
  readonly #zero = new ZeroPages();
  /** Those of the readers, as far as they were asked for; more pages begin them anew. */
  #judges: SpaceJudge[] = [];
  #tables = new Set<number>();

  constructor(dump: Dump, options: SpaceScanOptions = {}) {
    this.#dump = dump;
    const kernel = dump.vmcoreinfo === undefined ? undefined : kernelRoot(dump.vmcoreinfo);
    this.#kernelRoot = Number(options.kernelRoot ?? kernel?.cr3 ?? -1n);
    const modes = options.modes ?? likelyModes(kernel);
    // Those with the most levels first.
    const sorted = MODES.filter((mode) => modes.includes(mode));
    this.#readers = sorted.map((mode) => new TableReader(dump, SHAPES[mode], options.encryptionMask ?? 0n, this.#zero));
    for (const reader of this.#readers) this.#candidates.set(reader, []);
    this.#pages = new HeldPages(dump);
  }

  /** Pages that were looked at. */
  get done(): number {
    return this.#pages.done;
  }

  /** All of them. */
  get total(): number {
    return this.#pages.total;
  }

  /** Looks at so many pages. Returns whether there are more. Throws RangeError for no positive number. */
  step(pages: number): boolean {
    checkInteger(pages, 1, Number.MAX_SAFE_INTEGER, "pages", RangeError);
    this.#judges = [];
    this.#tables = new Set();
    for (let looked = 0; looked < pages; looked++) {
      const { frame } = this.#pages;
      if (frame === undefined) return false;
      if (this.#dump.pageSource.readPage(frame, this.#page)) this.#look(Number(frame) * PAGE);
      this.#pages.advance();
    }
    return this.#pages.frame !== undefined;
  }

  #look(address: number): void {
    if (isZero(this.#words)) {
      this.#zero.note(address / PAGE);
      return;
    }
    for (const reader of this.#readers) {
      const { rootBytes } = reader.shape;
      const words = rootBytes / 4;
      const found = this.#candidates.get(reader)!;
      for (let at = 0; at < this.#words.length; at += words) {
        const part = words === this.#words.length ? this.#words : this.#words.subarray(at, at + words);
        const root = address + at * 4;
        if (reader.looksLikeRoot(part)) found.push(root);
      }
    }
  }

  /**
   * Pages that look like roots and were not judged, because the tables below them map so many others that it would take for
   * ever to see whether they map themselves; known after `spaces`.
   */
  get skipped(): number {
    return this.#judges.reduce((sum, { skipped }) => sum + skipped, 0);
  }

  /** The spaces among the pages that were looked at: processes first, then by address. */
  spaces(): FoundSpace[] {
    // Tables of spaces with more levels look like roots of fewer.
    const tables = this.#tables;
    const found: FoundSpace[] = [];
    for (const [index, reader] of this.#readers.entries()) {
      let judge = this.#judges[index];
      if (judge === undefined) {
        const others = this.#candidates.get(reader)!.filter((root) => !tables.has(root - (root % PAGE)));
        judge = new SpaceJudge(this.#dump, reader, this.#kernelRoot, others);
        this.#judges.push(judge);
      }
      const spaces = judge.spaces();
      found.push(...spaces);
      if (index < this.#readers.length - 1) judge.addTables(spaces, tables);
    }
    return found.sort((a, b) => rank(a) - rank(b) || Number(a.root - b.root));
  }
}

function isZero(words: Uint32Array): boolean {
  for (let at = 0; at < words.length; at++) if (words[at] !== 0) return false;
  return true;
}

/** Those that run first, then processes, the kernel's own, what may be in use no longer, and what shares nothing with others. */
function rank({ cpus, kind, isKernels, shared }: FoundSpace): number {
  if (cpus.length > 0) return 0;
  if (isKernels) return 2;
  return { process: 1, kernel: 3, other: 4 }[kind] + (shared > 1 ? 0 : 4);
}

/** The mode of a kernel that is known, else every one. */
function likelyModes(kernel: KernelRoot | undefined): InspectedMode[] {
  if (kernel === undefined) return [...MODES];
  if (kernel.bits === 64) return [kernel.fiveLevel ? "5level" : "4level"];
  return [kernel.pae ? "pae" : "32bit"];
}
