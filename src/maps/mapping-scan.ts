/**
 * Lists what a set of page tables maps in pieces of work that a caller bounds, for those who must answer others meanwhile: a page
 * in a browser, or whoever has to fetch the tables. It makes no objects of what it finds.
 */
import { bitOf, fieldOf, flagOf } from "../abi/bits.js";
import { PDE4M, PTE, PTE32 } from "../abi/entries.js";
import { hasPages, levelsOf, offsetBits } from "../abi/entry-format.js";
import { CR3_PAE, CR4 } from "../abi/registers.js";
import type { PageSource } from "../api.js";
import { checkInteger } from "../checks.js";
import { pagingModeOf } from "./mode.js";
import type { StructureRegisters } from "./structure.js";

const PAGE = 4096;
const PRESENT = flagOf(PTE, "P");
const PAGE_SIZE_BIT = flagOf(PTE, "PS");
const WRITABLE = flagOf(PTE, "RW");
const USER = flagOf(PTE, "US");
/** In an entry's upper half, where the legacy formats of 4 bytes have none. */
const NO_EXECUTE = Number(bitOf(PTE, "XD") >> 32n) | 0;
const ADDRESS_HIGH = Number(bitOf(PTE, "ADDRESS") >> 32n);
const FRAME_LOW = fieldOf(PTE, "ADDRESS").low;
/** Pages of 4 KiB in 4 GiB. */
const FRAMES_4G = 2 ** 20;
const PSE36 = fieldOf(PDE4M, "ADDRESS_HIGH");
const FRAMES_OF_4M = 2 ** (fieldOf(PDE4M, "ADDRESS").low - FRAME_LOW);
/** Pages of 4 KiB in the space of 64-bit addresses. */
const ALL_FRAMES = 2 ** 52;
/** Reading a table is worth so many looks at entries. */
const READING = 64;

/** Effective rights of a range, to be OR-ed: user code may use it, it may be written, executed. */
export const ScanRights = { User: 1, Write: 2, Execute: 4 } as const;

const EVERYTHING = ScanRights.User | ScanRights.Write | ScanRights.Execute;

/**
 * Gets each range when it is known to end, in ascending order: first virtual page, first physical page and length, all in pages of
 * 4 KiB; the level of its entries (1 to 3), which is the size of its pages; and its rights (`ScanRights`), ANDed over all levels.
 */
export type RangeVisitor = (vaPage: number, paPage: number, pages: number, level: number, rights: number) => void;

/** What part of a space a scan goes through, and what parts ranges. */
export interface MappingScanOptions {
  /** Nothing is listed whose entry covers lower addresses alone. Default 0n. */
  readonly from?: bigint;
  /** Nothing is listed that begins at this address or behind it. Default: all there is. */
  readonly to?: bigint;
  /** Addresses, multiples of 4096, at which a range ends though its mapping goes on. Default: none. */
  readonly boundaries?: readonly bigint[];
}

/** A table that is being gone through. */
interface Place {
  frame: number;
  /** The next entry. */
  index: number;
  /** Virtual page of entry 0, without sign extension. */
  base: number;
  rights: number;
  /** Something is mapped below, or not all of it was looked at. */
  mapped: boolean;
  read: boolean;
  readonly words: Uint32Array;
}

/**
 * The ranges of `space.mappings()` in a lenient space: mappings that follow each other in both memories with equal rights and page
 * size. Tables that map nothing are gone through once, however many entries point to them; all else as often as it is reached, so
 * that crafted tables may have 2^36 ranges: it is the caller who ends a scan. Where the source throws, `step` may be called again.
 */
export class MappingScan {
  readonly #source: PageSource;
  readonly #wide: boolean;
  readonly #pae: boolean;
  readonly #levels: number;
  readonly #rootFirst: number;
  readonly #pagesAt: readonly boolean[];
  readonly #addressHigh: number;
  /** By level: pages of 4 KiB that an entry stands for. */
  readonly #span: readonly number[];
  readonly #places: readonly Place[];
  /** Pages of the lower half, behind which addresses are sign-extended; and what to add there. */
  readonly #half: number;
  readonly #extension: number;
  readonly #end: number;
  readonly #boundaries: readonly number[];
  #boundary = 0;
  readonly #empty = new Set<number>();
  readonly #tables = new Set<number>();
  readonly #missing = new Set<number>();
  #cyclic = false;
  #level: number;
  #va = 0;
  #pa = 0;
  #pages = 0;
  #leafLevel = 0;
  #rights = 0;

  constructor(source: PageSource, registers: StructureRegisters, options: MappingScanOptions = {}) {
    const mode = pagingModeOf(registers);
    const mask = registers.encryptionMask ?? 0n;
    const pse = (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
    this.#source = source;
    this.#wide = mode !== "32bit";
    this.#pae = mode === "pae";
    this.#levels = mode === "none" ? 0 : levelsOf(mode);
    this.#pagesAt = [0, 1, 2, 3, 4, 5].map((level) => mode !== "none" && level > 1 && hasPages(mode, level, { pse }));
    this.#addressHigh = ADDRESS_HIGH & ~Number(BigInt.asUintN(32, mask >> 32n));
    this.#span = [0, 1, 2, 3, 4, 5].map((level) =>
      mode === "none" || level === 0 ? 0 : 2 ** (offsetBits(mode, level) - FRAME_LOW),
    );
    const long = mode === "4level" || mode === "5level";
    const width = long ? 2 ** (9 * this.#levels) : ALL_FRAMES;
    this.#half = long ? width / 2 : ALL_FRAMES;
    this.#extension = ALL_FRAMES - width;
    const root = Number(registers.cr3 & ~mask & (long ? bitOf(PTE, "ADDRESS") : bitOf(PTE32, "ADDRESS"))) / PAGE;
    this.#rootFirst = this.#pae ? Number(registers.cr3 & bitOf(CR3_PAE, "PDPT") & BigInt(PAGE - 1)) / 4 : 0;
    this.#places = [0, 1, 2, 3, 4, 5].map(() => ({
      frame: 0,
      index: 0,
      base: 0,
      rights: 0,
      mapped: false,
      read: false,
      words: new Uint32Array(PAGE / 4),
    }));
    this.#end = options.to === undefined ? Number.POSITIVE_INFINITY : this.#flat(options.to);
    this.#boundaries = [...(options.boundaries ?? [])].map((va) => Number(va >> 12n)).sort((a, b) => a - b);
    this.#level = this.#levels;
    if (this.#levels > 0) this.#enter(this.#levels, root, 0, EVERYTHING);
    this.#seek(this.#flat(options.from ?? 0n));
  }

  /** Distinct pages of tables that were read. */
  get tables(): number {
    return this.#tables.size;
  }

  /** Distinct tables, by level, that the source does not have: what they map is not listed. */
  get missingTables(): number {
    return this.#missing.size;
  }

  /** A table was met below itself. */
  get cyclic(): boolean {
    return this.#cyclic;
  }

  /** How much of the addresses was gone through, 0 to 1. */
  get done(): number {
    if (this.#level === 0) return 1;
    const { index } = this.#places[this.#levels]!;
    const below =
      this.#level < this.#levels ? this.#places[this.#levels - 1]!.index / this.#entries(this.#levels - 1) : 0;
    return Math.min(1, Math.max(0, index - (this.#level < this.#levels ? 1 : 0) + below) / this.#entries(this.#levels));
  }

  /**
   * Looks at about so many entries, and tells `visit` the ranges that end there. Returns whether there is more; the last range is told
   * by the call that returns false. Throws RangeError for no positive number; what the source throws leaves all as it is.
   */
  step(entries: number, visit: RangeVisitor): boolean {
    checkInteger(entries, 1, Number.MAX_SAFE_INTEGER, "entries", RangeError);
    let left = entries;
    while (this.#level > 0) {
      if (left <= 0) return true;
      const place = this.#places[this.#level]!;
      if (!place.read) {
        left -= READING;
        if (!this.#read(place)) continue;
      }
      left -= this.#look(place, left, visit);
    }
    this.#tell(visit);
    this.#pages = 0;
    return false;
  }

  /** A page of an address, counted without the gap between the halves. */
  #flat(address: bigint): number {
    const page = Number(address >> 12n);
    if (page < this.#half) return page;
    return Math.max(this.#half, page - this.#extension);
  }

  #entries(level: number): number {
    if (!this.#wide) return 1024;
    return this.#pae && level === 3 ? 4 : 512;
  }

  #enter(level: number, frame: number, base: number, rights: number): void {
    Object.assign(this.#places[level]!, { frame, index: 0, base, rights, mapped: false, read: false });
    this.#level = level;
  }

  /** Where the scan begins: entries in front of it are passed over when their table is entered. */
  #from = 0;

  #seek(page: number): void {
    this.#from = page;
    if (this.#levels > 0) this.#skip(this.#levels);
  }

  #skip(level: number): void {
    const place = this.#places[level]!;
    if (this.#from <= place.base) return;
    place.index = Math.min(this.#entries(level), Math.floor((this.#from - place.base) / this.#span[level]!));
    if (place.index > 0) place.mapped = true;
  }

  /** Whether the table is there; where it is not, the scan goes on above it. */
  #read(place: Place): boolean {
    const level = this.#level;
    if (!this.#source.readPage(BigInt(place.frame), new Uint8Array(place.words.buffer))) {
      this.#missing.add(place.frame * 8 + level);
      this.#leave(place);
      return false;
    }
    this.#tables.add(place.frame);
    place.read = true;
    return true;
  }

  #leave(place: Place): void {
    const level = this.#level;
    if (!place.mapped) this.#empty.add(place.frame * 8 + level);
    if (level === this.#levels) {
      this.#level = 0;
      return;
    }
    this.#level = level + 1;
    if (place.mapped) this.#places[level + 1]!.mapped = true;
  }

  /** Goes through the table until it ends, or one below it is entered, or that many entries are looked at; returns how many were. */
  #look(place: Place, most: number, visit: RangeVisitor): number {
    const level = this.#level;
    const { words, base, rights: above } = place;
    const span = this.#span[level]!;
    const root = this.#pae && level === 3;
    const first = root ? this.#rootFirst : 0;
    const entries = this.#entries(level);
    const begun = place.index;
    const last = Math.min(entries, begun + most);
    while (place.index < last) {
      const index = place.index++;
      const low = words[this.#wide ? first + 2 * index : index]!;
      if ((low & PRESENT) === 0) continue;
      const at = base + index * span;
      if (at >= this.#end) {
        this.#level = 0;
        return place.index - begun;
      }
      const high = this.#wide ? words[first + 2 * index + 1]! : 0;
      const own = root ? EVERYTHING : rightsOf(low, high);
      if (level === 1 || (this.#pagesAt[level]! && (low & PAGE_SIZE_BIT) !== 0)) {
        place.mapped = true;
        this.#leaf(at, this.#pageAt(level, low, high), span, level, above & own, visit);
        continue;
      }
      const child = (high & this.#addressHigh) * FRAMES_4G + (low >>> FRAME_LOW);
      if (this.#empty.has(child * 8 + level - 1)) continue;
      for (let up = level; up <= this.#levels; up++) if (this.#places[up]!.frame === child) this.#cyclic = true;
      this.#enter(level - 1, child, at, above & own);
      this.#skip(level - 1);
      return place.index - begun;
    }
    if (place.index >= entries) this.#leave(place);
    return Math.max(1, place.index - begun);
  }

  /** Physical page that a leaf maps; bits below its size are no address. */
  #pageAt(level: number, low: number, high: number): number {
    if (level === 1) return (high & this.#addressHigh) * FRAMES_4G + (low >>> FRAME_LOW);
    const span = this.#span[level]!;
    if (this.#wide) {
      const page = (high & this.#addressHigh) * FRAMES_4G + (low >>> FRAME_LOW);
      return page - (page % span);
    }
    const upper = (low >>> PSE36.low) & (2 ** PSE36.width! - 1);
    return upper * FRAMES_4G + Math.floor((low >>> FRAME_LOW) / FRAMES_OF_4M) * FRAMES_OF_4M;
  }

  #leaf(flat: number, pa: number, span: number, level: number, rights: number, visit: RangeVisitor): void {
    const va = flat >= this.#half ? flat + this.#extension : flat;
    if (
      this.#pages > 0 &&
      va === this.#va + this.#pages &&
      pa === this.#pa + this.#pages &&
      level === this.#leafLevel &&
      rights === this.#rights &&
      !(va >= this.#nextBoundary())
    ) {
      this.#pages += span;
      return;
    }
    this.#tell(visit);
    this.#va = va;
    this.#pa = pa;
    this.#pages = span;
    this.#leafLevel = level;
    this.#rights = rights;
    while (this.#boundary < this.#boundaries.length && this.#boundaries[this.#boundary]! <= va) this.#boundary++;
  }

  /** The first behind the range's first page. */
  #nextBoundary(): number {
    return this.#boundaries[this.#boundary] ?? Number.POSITIVE_INFINITY;
  }

  #tell(visit: RangeVisitor): void {
    if (this.#pages > 0) visit(this.#va, this.#pa, this.#pages, this.#leafLevel, this.#rights);
  }
}

function rightsOf(low: number, high: number): number {
  return (
    ((low & USER) !== 0 ? ScanRights.User : 0) |
    ((low & WRITABLE) !== 0 ? ScanRights.Write : 0) |
    ((high & NO_EXECUTE) !== 0 ? 0 : ScanRights.Execute)
  );
}
