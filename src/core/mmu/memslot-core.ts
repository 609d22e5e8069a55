/** A memslot's record and what the core keeps for each of its gfns: rmaps, counts, host pages, the dirty log; and its RAM. */
import { Allocations } from "../linear/allocations.js";
import type { LinearMemory, Place } from "../linear/linear-memory.js";
import { MemslotRecord } from "../records/mmu.js";
import type { MmuCore } from "./mmu-core.js";

/** What a slot is made of. */
export interface MemslotShape {
  readonly addressSpace: number;
  /** First gfn. */
  readonly base: bigint;
  readonly pages: number;
  /** Host-virtual address of its first byte. */
  readonly hva: bigint;
  /** Linear address of its RAM. */
  readonly ram: number;
  /** MEMSLOT_TYPE_* bits; 0: its pages have no memory type of their own. */
  readonly memoryType: number;
}

/** Largest level of a page. */
const LEVELS = 3;
const HEAD_BYTES = 4;
const COUNT_BYTES = 4;
const TRACK_BYTES = 2;
const HOST_PAGE_BYTES = 8;
/** Pages that a word of the dirty log stands for. */
const WORD_PAGES = 64;

export class MemslotCore {
  /** Its record's linear address: names the slot. */
  readonly at: number;
  readonly #record: MemslotRecord;
  readonly #linear: LinearMemory;
  readonly #memory: Allocations;
  readonly #shape: MemslotShape;
  /** Where the host pages are, and the dirty log (0: it has none), for short. */
  readonly #host: number;
  #dirty = 0;

  /** @internal Throws OutOfMemoryError with nothing allocated. */
  constructor({ internals: { linear } }: MmuCore, shape: MemslotShape) {
    this.#linear = linear;
    this.#shape = shape;
    const memory = new Allocations(linear);
    this.#memory = memory;
    const record = memory.guard(() => this.#build(shape));
    this.#record = record;
    this.at = record.at;
    this.#host = record.host;
  }

  #build(shape: MemslotShape): MemslotRecord {
    const { base, pages } = shape;
    const memory = this.#memory;
    const record = new MemslotRecord(this.#linear, memory.take(MemslotRecord.SIZE));
    for (let level = 1; level <= LEVELS; level++) {
      record.setRmap(level - 1, memory.take(levelPages(base, pages, level) * HEAD_BYTES));
    }
    for (let level = 2; level <= LEVELS; level++) {
      const counts = memory.take(levelPages(base, pages, level) * COUNT_BYTES);
      record.setLpage(level - 2, counts);
      this.#forbidPartialPages(counts, level);
    }
    record.track = memory.take(pages * TRACK_BYTES);
    record.host = memory.take(pages * HOST_PAGE_BYTES);
    record.base = base;
    record.hva = shape.hva;
    record.pages = pages;
    record.space = shape.addressSpace;
    record.ram = shape.ram;
    record.memtype = shape.memoryType;
    return record;
  }

  /**
   * Large pages at the ends that the slot holds only a part of are forbidden, and all of them where guest-physical and host
   * virtual addresses are not aligned to each other (kvm_alloc_memslot_metadata).
   */
  #forbidPartialPages(counts: number, level: number): void {
    const { base, pages, hva } = this.#shape;
    const count = levelPages(base, pages, level);
    const mask = (1n << BigInt(9 * (level - 1))) - 1n;
    const words = this.#linear.u32;
    const first = counts >>> 2;
    if ((base & mask) !== 0n) words[first] = 1;
    if (((base + BigInt(pages)) & mask) !== 0n) words[first + count - 1] = 1;
    if (((base ^ (hva >> 12n)) & mask) !== 0n) words.fill(1, first, first + count);
  }

  set flags(flags: number) {
    this.#record.flags = flags;
  }

  // ---------------------------------------------------------------- the dirty log

  get hasLog(): boolean {
    return this.#dirty !== 0;
  }

  /** Begins a log, with every page in it if `initial`. Throws OutOfMemoryError with nothing changed. */
  startLog(initial: boolean): void {
    if (this.hasLog) return;
    const { pages } = this.#shape;
    this.#dirty = this.#memory.take(Math.ceil(pages / WORD_PAGES) * 8);
    if (initial) {
      for (let page = 0; page < pages; page += WORD_PAGES) {
        const rest = BigInt(Math.min(pages - page, WORD_PAGES));
        this.setDirtyWord(page / WORD_PAGES, (1n << rest) - 1n);
      }
    }
    this.#record.dirty = this.#dirty;
  }

  stopLog(): void {
    if (!this.hasLog) return;
    this.#record.dirty = 0;
    this.#memory.free(this.#dirty);
    this.#dirty = 0;
  }

  /** Pages 64 * `word` to 64 * `word` + 63 of the log, the first in bit 0. */
  dirtyWord(word: number): bigint {
    return this.#linear.u64[(this.#dirty >>> 3) + word]!;
  }

  setDirtyWord(word: number, pages: bigint): void {
    this.#linear.u64[(this.#dirty >>> 3) + word] = pages;
  }

  /** Whether page `page` of the slot is in the log. */
  isDirty(page: number): boolean {
    return ((this.dirtyWord(Math.floor(page / WORD_PAGES)) >> BigInt(page % WORD_PAGES)) & 1n) !== 0n;
  }

  // ---------------------------------------------------------------- what the host has

  /** pfn << 12 | HOST_* bits of page `page` of the slot. */
  hostPage(page: number): bigint {
    return this.#linear.u64[(this.#host >>> 3) + page]!;
  }

  setHostPage(page: number, value: bigint): void {
    this.#linear.u64[(this.#host >>> 3) + page] = value;
  }

  /** The same in halves, which takes no bigint. */
  hostPageLow(page: number): number {
    return this.#linear.u32[(this.#host >>> 2) + 2 * page]!;
  }

  hostPageHigh(page: number): number {
    return this.#linear.u32[(this.#host >>> 2) + 2 * page + 1]!;
  }

  // ---------------------------------------------------------------- its RAM

  /** Number of its first page of RAM in linear memory. */
  get ramPage(): number {
    return this.#shape.ram >>> 12;
  }

  /** Copies bytes of its RAM from `offset` on to `into`. */
  read(offset: number, into: Uint8Array): void {
    const from = this.#shape.ram + offset;
    into.set(this.#linear.u8.subarray(from, from + into.length));
  }

  /** Writes its RAM; nobody is told. */
  write(offset: number, bytes: Uint8Array): void {
    this.#linear.u8.set(bytes, this.#shape.ram + offset);
  }

  // ---------------------------------------------------------------- all of it, for a saved state

  /** @internal Where its records lie. */
  get places(): Place[] {
    return this.#memory.places;
  }

  get memoryType(): number {
    return this.#shape.memoryType;
  }

  /** @internal Bytes of the counts, the host's pages and, where there is one, the dirty log: views of linear memory. */
  arrays(): Uint8Array[] {
    const { base, pages } = this.#shape;
    const record = this.#record;
    const view = (at: number, bytes: number) => this.#linear.u8.subarray(at, at + bytes);
    const counts = [2, 3].map((level) => view(record.lpage(level - 2), levelPages(base, pages, level) * COUNT_BYTES));
    const log = this.hasLog ? [view(this.#dirty, Math.ceil(pages / WORD_PAGES) * 8)] : [];
    return [...counts, view(record.track, pages * TRACK_BYTES), view(record.host, pages * HOST_PAGE_BYTES), ...log];
  }

  /** @internal Sets the rmap head of the `index`-th block of a level. */
  setRmapHead(level: number, index: number, head: number): void {
    this.#linear.u32[(this.#record.rmap(level - 1) >>> 2) + index] = head;
  }

  // ---------------------------------------------------------------- what the core keeps for its gfns, to look at

  /** Number of blocks of a level that it touches. */
  blocks(level: number): number {
    return levelPages(this.#shape.base, this.#shape.pages, level);
  }

  /** The rmap head of the `index`-th block of a level. */
  rmapHead(level: number, index: number): number {
    return this.#linear.u32[(this.#record.rmap(level - 1) >>> 2) + index]!;
  }

  /** How much forbids a large page of level 2 or 3 at the `index`-th block. */
  largePageCount(level: number, index: number): number {
    return this.#linear.u32[(this.#record.lpage(level - 2) >>> 2) + index]!;
  }

  /** How many shadow pages want the guest's writes to page `page` of the slot. */
  trackCount(page: number): number {
    return this.#linear.u16[(this.#record.track >>> 1) + page]!;
  }

  /** Gives its memory back. */
  release(): void {
    this.#memory.release();
  }
}

/** Blocks of a level that a range of gfns touches. */
function levelPages(base: bigint, pages: number, level: number): number {
  const shift = BigInt(9 * (level - 1));
  return Number(((base + BigInt(pages) - 1n) >> shift) - (base >> shift)) + 1;
}
