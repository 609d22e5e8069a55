/** Finds the address spaces in a dump without symbols: pages that are roots of page tables. */
import { checkInteger } from "../checks.js";
import type { Dump } from "./dump.js";
import { HeldPages } from "./held-pages.js";
import { usersRoot } from "./tables/isolation.js";
import { SelfMaps } from "./tables/self-maps.js";
import { type Mapped, TableReader } from "./tables/table-reader.js";
import { type InspectedMode, SHAPES } from "./tables/table-shape.js";
import { type KernelRoot, kernelRoot } from "./vmcoreinfo.js";

const PAGE = 4096;

const MODES: readonly InspectedMode[] = ["5level", "4level", "pae", "32bit"];

/**
 * What a space is, by what its tables map: `process` has user pages; `kernel` the kernel's part alone; `other` maps things below the
 * kernel's part, but none for users: firmware, a trampoline, or a root that is no longer in use.
 */
export type SpaceKind = "process" | "kernel" | "other";

/** An address space that was found. */
export interface FoundSpace {
  /** Guest-physical address of the root: CR3 without its flags. */
  readonly root: bigint;
  readonly mode: InspectedMode;
  readonly kind: SpaceKind;
  /** With kernel page-table isolation, the root that user code runs by. */
  readonly userRoot: bigint | undefined;
  readonly mapped: Mapped;
  /** Numbers of the processors that ran by it when the dump was taken, by either root. */
  readonly cpus: readonly number[];
  /** VMCOREINFO names it as the kernel's own. */
  readonly isKernels: boolean;
  /** Spaces, this one included, that have the same kernel part. */
  readonly shared: number;
  /** The root of one of them, for all the same. */
  readonly kernelPart: bigint;
}

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
  readonly #skipped = new Map<TableReader, number>();

  constructor(dump: Dump, options: SpaceScanOptions = {}) {
    this.#dump = dump;
    const kernel = dump.vmcoreinfo === undefined ? undefined : kernelRoot(dump.vmcoreinfo);
    this.#kernelRoot = Number(options.kernelRoot ?? kernel?.cr3 ?? -1n);
    const modes = options.modes ?? likelyModes(kernel);
    // Those with the most levels first.
    const sorted = MODES.filter((mode) => modes.includes(mode));
    this.#readers = sorted.map((mode) => new TableReader(dump, SHAPES[mode], options.encryptionMask ?? 0n));
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
    for (let looked = 0; looked < pages; looked++) {
      const { frame } = this.#pages;
      if (frame === undefined) return false;
      if (this.#dump.pageSource.readPage(frame, this.#page)) this.#look(Number(frame) * PAGE);
      this.#pages.advance();
    }
    return this.#pages.frame !== undefined;
  }

  #look(address: number): void {
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
    return [...this.#skipped.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The spaces among the pages that were looked at: processes first, then by address. */
  spaces(): FoundSpace[] {
    // Tables of spaces with more levels look like roots of fewer.
    const tables = new Set<number>();
    const found: FoundSpace[] = [];
    for (const reader of this.#readers) {
      const others = this.#candidates.get(reader)!.filter((root) => !tables.has(root - (root % PAGE)));
      const spaces = this.#spacesOf(reader, others);
      found.push(...spaces);
      for (const { root, userRoot } of spaces) {
        reader.addTables(Number(root), tables);
        if (userRoot !== undefined) reader.addTables(Number(userRoot), tables);
      }
    }
    return found.sort((a, b) => rank(a) - rank(b) || Number(a.root - b.root));
  }

  #spacesOf(reader: TableReader, candidates: readonly number[]): FoundSpace[] {
    const known = new Set(candidates);
    const itself = new SelfMaps(reader, candidates);
    const roots = candidates.filter((root) => reader.isRoot(root) && itself.has(root));
    this.#skipped.set(reader, itself.skipped);
    // A table of one that has more levels looks like a root of this mode; so do those of a space that maps itself by one entry.
    const below = new Set<number>();
    for (const root of roots) for (const target of targets(reader, root)) below.add(target);
    const tops = roots.filter((root) => !below.has(root) || targets(reader, root).includes(root));
    const parts = tops.map((root) => kernelPartOf(reader, root));
    const sharing = new Map<string, { first: number; count: number }>();
    for (const [index, part] of parts.entries()) {
      const one = sharing.get(part);
      if (one === undefined) sharing.set(part, { first: tops[index]!, count: 1 });
      else one.count++;
    }
    const userRoots = tops.map((root) => {
      return known.has(root + PAGE) ? usersRoot(reader, root) : undefined;
    });
    const { kernelFrom, rootBytes, mode } = reader.shape;
    const found = tops.map((root, index): FoundSpace => {
      const userRoot = userRoots[index];
      const low = reader.count(root, 0, kernelFrom);
      const { first, count } = sharing.get(parts[index]!)!;
      return {
        root: BigInt(root),
        mode,
        kind: low.user > 0 ? "process" : low.kernel === 0 ? "kernel" : "other",
        userRoot: userRoot === undefined ? undefined : BigInt(userRoot),
        mapped: this.#mapped(reader, root, userRoot),
        cpus: this.#cpusOf([root, ...(userRoot === undefined ? [] : [userRoot])], rootBytes),
        isKernels: root === this.#kernelRoot,
        shared: count,
        kernelPart: BigInt(first),
      };
    });
    const users = new Set(userRoots);
    return found.filter((_, index) => !users.has(tops[index]!));
  }

  /** What the kernel's root maps; its user pages are executable by the users' root alone. */
  #mapped(reader: TableReader, root: number, userRoot: number | undefined): Mapped {
    const mapped = reader.count(root, 0, Number.MAX_SAFE_INTEGER);
    if (userRoot === undefined) return mapped;
    const { kernelFrom } = reader.shape;
    const above = reader.count(root, kernelFrom, Number.MAX_SAFE_INTEGER).writableExecutable;
    return { ...mapped, writableExecutable: above + reader.count(userRoot, 0, kernelFrom).writableExecutable };
  }

  #cpusOf(roots: readonly number[], rootBytes: number): number[] {
    return this.#dump.cpus.flatMap(({ cr3 }, number) => {
      const root = Number(cr3 % 2n ** 52n);
      return roots.includes(root - (root % rootBytes)) ? [number] : [];
    });
  }
}

/** What the kernel's part of a root is, as text; flags that processors set do not count. */
function kernelPartOf(reader: TableReader, root: number): string {
  const entries = reader.entriesOf(root);
  const part: string[] = [];
  for (let index = reader.shape.kernelFrom; index < entries.length / 2; index++) {
    const target = reader.target(entries, index);
    if (target !== -1) part.push(`${index}:${target}`);
  }
  return part.join(" ");
}

function targets(reader: TableReader, root: number): number[] {
  const entries = reader.entriesOf(root);
  return Array.from({ length: entries.length / 2 }, (_, index) => reader.target(entries, index)).filter(
    (at) => at !== -1,
  );
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
