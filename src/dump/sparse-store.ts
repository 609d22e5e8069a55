/** The inflated bytes of a compressed dump, of which only the pages that are not all zero are kept. */
import type { ByteSource } from "./byte-source.js";

const PAGE = 4096;
/** Pages are kept in slabs so that a million pages are not a million typed arrays. */
const PAGES_PER_SLAB = 256;

/** A byte source filled from front to back; memory use is proportional to the number of non-zero pages. */
export class SparseStore implements ByteSource {
  readonly name: string;
  /** Page number in the file to position among the kept pages. */
  readonly #kept = new Map<number, number>();
  readonly #slabs: Uint8Array[] = [];
  #size = 0;
  readonly #pending = new Uint8Array(PAGE);
  #pendingLength = 0;

  constructor(name: string) {
    this.name = name;
  }

  get size(): number {
    return this.#size;
  }

  /** Number of 4 KiB pages kept in memory. */
  get keptPages(): number {
    return this.#kept.size;
  }

  /** Appends the next bytes of the file. */
  append(bytes: Uint8Array): void {
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
      if (position === undefined) {
        into.fill(0, done, done + count);
      } else {
        const slab = this.#slabs[Math.floor(position / PAGES_PER_SLAB)]!;
        const start = (position % PAGES_PER_SLAB) * PAGE + inPage;
        into.set(slab.subarray(start, start + count), done);
      }
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
    const position = this.#kept.size;
    if (position % PAGES_PER_SLAB === 0) this.#slabs.push(new Uint8Array(PAGES_PER_SLAB * PAGE));
    this.#slabs[this.#slabs.length - 1]!.set(page, (position % PAGES_PER_SLAB) * PAGE);
    this.#kept.set(pageNumber, position);
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
