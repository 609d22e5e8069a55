/** Pages of linear memory whose writes are noted: a byte for each, in linear memory, where walks mark what they write. */
import { CODES } from "../../abi/index.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { PageWatchRecord, WORK_OFFSET, type WorkRecord } from "../records/walk.js";

const PAGE_SHIFT = 12;
const PAGE_BYTES = 2 ** PAGE_SHIFT;
const { WATCH_CLEAN, WATCH_WRITTEN } = CODES;

/** Addresses and sizes are those of linear memory, in bytes; a range is all pages that it touches. */
export class PageWatch {
  /** Linear address of the bytes, 0 while no page is watched: then there is nothing to note. */
  map = 0;
  #pages = 0;
  /** Pages that are watched. */
  #count = 0;
  readonly #linear: LinearMemory;
  readonly #record: PageWatchRecord;

  constructor(linear: LinearMemory, work: WorkRecord) {
    this.#linear = linear;
    this.#record = new PageWatchRecord(linear, work.at + WORK_OFFSET.watch);
  }

  /** Watched pages that were written and not taken. */
  get written(): number {
    return this.#record.written;
  }

  /** Throws OutOfMemoryError, with nothing changed, where there is no room for the bytes. */
  watch(address: number, size: number): void {
    this.#cover(address + size);
    const bytes = this.#bytes(address, size);
    for (let page = bytes.indexOf(0); page !== -1; page = bytes.indexOf(0, page + 1)) {
      bytes[page] = WATCH_CLEAN;
      this.#count++;
    }
  }

  unwatch(address: number, size: number): void {
    if (this.map === 0) return;
    const bytes = this.#bytes(address, size);
    for (let page = 0; page < bytes.length; page++) {
      if (bytes[page] === 0) continue;
      if (bytes[page] === WATCH_WRITTEN) this.#record.written--;
      bytes[page] = 0;
      this.#count--;
    }
    if (this.#count === 0) this.#drop();
  }

  /** Something was written to the page at `address`. Cheap where `map` is 0, but ask that first. */
  note(address: number): void {
    const page = address >>> PAGE_SHIFT;
    if (page >= this.#pages) return;
    const at = this.map + page;
    const { u8 } = this.#linear;
    if (u8[at] !== WATCH_CLEAN) return;
    u8[at] = WATCH_WRITTEN;
    this.#record.written++;
  }

  /** The same for every page of a range. */
  noteRange(address: number, size: number): void {
    if (size === 0) return;
    for (let at = address; at < address + size; at += PAGE_BYTES) this.note(at);
    this.note(address + size - 1);
  }

  /** The pages of a range that were written, as numbers from its first page on; they count as clean from now on. */
  take(address: number, size: number): number[] {
    const taken: number[] = [];
    if (this.map === 0) return taken;
    const bytes = this.#bytes(address, size);
    for (let page = bytes.indexOf(WATCH_WRITTEN); page !== -1; page = bytes.indexOf(WATCH_WRITTEN, page + 1)) {
      bytes[page] = WATCH_CLEAN;
      this.#record.written--;
      taken.push(page);
    }
    return taken;
  }

  /** What lay at `from` lies at `to` now, where no page is watched yet, and is watched and written there as it was. */
  move(from: number, to: number, size: number): void {
    if (this.map === 0) return;
    const states = this.#bytes(from, size).slice();
    this.#cover(to + size);
    const target = this.#bytes(to, size);
    for (const [page, state] of states.entries()) {
      if (state === 0) continue;
      target[page] = state;
      this.#count++;
      if (state === WATCH_WRITTEN) this.#record.written++;
    }
  }

  /** The bytes of the pages that a range touches, as far as there are any. */
  #bytes(address: number, size: number): Uint8Array {
    const first = Math.min(Math.floor(address / PAGE_BYTES), this.#pages);
    const end = Math.min(Math.ceil((address + size) / PAGE_BYTES), this.#pages);
    return this.#linear.u8.subarray(this.map + first, this.map + end);
  }

  /** Has bytes for every page up to `end`. */
  #cover(end: number): void {
    if (Math.ceil(end / PAGE_BYTES) <= this.#pages) return;
    // Allocating may make the memory grow, which the bytes need not cover: what is allocated is the core's own.
    const pages = Math.ceil(this.#linear.memory.buffer.byteLength / PAGE_BYTES);
    const map = this.#linear.allocate(pages);
    const old = { map: this.map, pages: this.#pages };
    if (old.map !== 0) {
      this.#linear.u8.copyWithin(map, old.map, old.map + old.pages);
      this.#linear.free(old.map, old.pages);
    }
    this.#publish(map, pages);
  }

  #drop(): void {
    this.#linear.free(this.map, this.#pages);
    this.#publish(0, 0);
  }

  #publish(map: number, pages: number): void {
    this.map = map;
    this.#pages = pages;
    this.#record.map = map;
    this.#record.pages = pages;
  }
}
