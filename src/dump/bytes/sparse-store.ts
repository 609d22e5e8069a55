/** The inflated bytes of a compressed dump, of which only the pages that are not all zero are kept. */
import type { ByteSource } from "./byte-source.js";
import { InflationLimitError } from "./errors.js";

const PAGE = 4096;
/** Pages are kept in slabs so that a million pages are not a million typed arrays. */
const PAGES_PER_SLAB = 256;

/** Where a store keeps its pages, by their number in the order in which they came. */
export interface PageStorage {
  add(page: Uint8Array): void;
  /** Copies the bytes from `offset` on of page `number` to `into`, at most to the page's end. */
  read(number: number, offset: number, into: Uint8Array): void;
}

/** Pages in memory. */
export class MemoryPages implements PageStorage {
  readonly #slabs: Uint8Array[] = [];
  #count = 0;

  add(page: Uint8Array): void {
    const inSlab = this.#count++ % PAGES_PER_SLAB;
    if (inSlab === 0) this.#slabs.push(new Uint8Array(PAGES_PER_SLAB * PAGE));
    this.#slabs[this.#slabs.length - 1]!.set(page, inSlab * PAGE);
  }

  read(number: number, offset: number, into: Uint8Array): void {
    const slab = this.#slabs[Math.floor(number / PAGES_PER_SLAB)]!;
    const start = (number % PAGES_PER_SLAB) * PAGE + offset;
    into.set(slab.subarray(start, start + into.length));
  }
}

/** Limits of what a store keeps, and where. */
export interface SparseStoreOptions {
  /** Most bytes that may be appended. Default: no limit. */
  readonly limit?: number;
  /** Most bytes of pages that are not all zero. Default: no limit. */
  readonly keptLimit?: number;
  /** Where the pages are kept. Default: in memory. */
  readonly pages?: PageStorage;
}

/** A byte source filled from front to back; what it keeps is proportional to the number of non-zero pages. */
export class SparseStore implements ByteSource {
  readonly name: string;
  /** Page number in the file to position among the kept pages. */
  readonly #kept = new Map<number, number>();
  readonly #pages: PageStorage;
  readonly #limit: number;
  readonly #keptLimit: number;
  #size = 0;
  readonly #pending = new Uint8Array(PAGE);
  #pendingLength = 0;

  constructor(name: string, options: SparseStoreOptions = {}) {
    this.name = name;
    this.#limit = options.limit ?? Number.POSITIVE_INFINITY;
    this.#keptLimit = options.keptLimit ?? Number.POSITIVE_INFINITY;
    this.#pages = options.pages ?? new MemoryPages();
  }

  get size(): number {
    return this.#size;
  }

  /** Number of 4 KiB pages kept. */
  get keptPages(): number {
    return this.#kept.size;
  }

  /** Appends the next bytes of the file. Throws an InflationLimitError beyond a limit; the store is of no use then. */
  append(bytes: Uint8Array): void {
    if (this.#size + bytes.length > this.#limit) {
      const limit = `expected at most ${this.#limit} bytes of inflated data, found more`;
      throw new InflationLimitError(this.name, this.#limit, limit);
    }
    let from = 0;
    while (from < bytes.length) {
      if (this.#pendingLength === 0 && bytes.length - from >= PAGE) {
        this.#keep(bytes.subarray(from, from + PAGE), this.#size / PAGE);
        from += PAGE;
        this.#size += PAGE;
        continue;
      }
      const count = Math.min(PAGE - this.#pendingLength, bytes.length - from);
      this.#pending.set(bytes.subarray(from, from + count), this.#pendingLength);
      this.#pendingLength += count;
      from += count;
      this.#size += count;
      if (this.#pendingLength === PAGE) this.#flush();
    }
  }

  /** To be called once after the last append. */
  finish(): void {
    if (this.#pendingLength > 0) this.#flush();
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const inPage = at % PAGE;
      const count = Math.min(PAGE - inPage, length - done);
      const position = this.#kept.get((at - inPage) / PAGE);
      if (position === undefined) into.fill(0, done, done + count);
      else this.#pages.read(position, inPage, into.subarray(done, done + count));
      done += count;
    }
    return length;
  }

  #flush(): void {
    this.#pending.fill(0, this.#pendingLength);
    this.#keep(this.#pending, Math.ceil(this.#size / PAGE) - 1);
    this.#pendingLength = 0;
  }

  #keep(page: Uint8Array, pageNumber: number): void {
    if (isZero(page)) return;
    if ((this.#kept.size + 1) * PAGE > this.#keptLimit) {
      const limit = `expected at most ${this.#keptLimit} bytes of inflated pages that are not zero, found more`;
      throw new InflationLimitError(this.name, this.#size, limit);
    }
    this.#pages.add(page);
    this.#kept.set(pageNumber, this.#kept.size);
  }
}

function isZero(page: Uint8Array): boolean {
  if (page.byteOffset % 4 === 0) {
    const words = new Int32Array(page.buffer, page.byteOffset, PAGE / 4);
    for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
    return true;
  }
  for (let i = 0; i < PAGE; i++) if (page[i] !== 0) return false;
  return true;
}
