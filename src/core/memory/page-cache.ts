/** Pages of a source behind the slots: read when a walk first needs them, never written. */
import { CODES } from "../../abi/index.js";
import type { PageSource } from "../../api.js";
import { checkInteger, show } from "../../checks.js";
import { PageSourceError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { MemoryRecord, PageRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";

const PAGE_BYTES = 4096;
const FIRST_CAPACITY = 256;
/** Walks over two stages read up to 35 tables; a cache must hold those of one walk at once. */
const LEAST_PAGES = 64;
/** Linear memory has 4 GiB. */
const MOST_PAGES = 2 ** 20;

export class PageCache {
  /** Linear addresses of page-sized buffers, in use up to #used and kept for reuse after a flush. */
  readonly #buffers: number[] = [];
  #used = 0;
  /** Entries of the table: pages held, and frames known to be absent. */
  #entries = 0;
  #table: number;
  #capacity = FIRST_CAPACITY;
  #disposed = false;
  /** Frames in the table. */
  readonly #held = new Set<bigint>();
  /** Frames that the source is being asked for: it may translate by this very memory, and so ask for others. */
  readonly #asked = new Set<bigint>();
  readonly #exports: CoreExports;
  readonly #linear: LinearMemory;
  readonly #memory: MemoryRecord;
  readonly #source: PageSource;
  readonly #limit: number;
  readonly #frames: (gfn: bigint) => bigint;

  /**
   * `memory` is the MEMORY record that the table is published in; `limit` the most pages held at once; `frames` says which
   * frame of the source a frame of the memory is.
   */
  constructor(
    exports: CoreExports,
    linear: LinearMemory,
    memory: number,
    source: PageSource,
    limit: number,
    frames: (gfn: bigint) => bigint,
  ) {
    this.#exports = exports;
    this.#linear = linear;
    this.#memory = new MemoryRecord(linear, memory);
    this.#source = source;
    this.#limit = limit;
    this.#frames = frames;
    checkInteger(limit, LEAST_PAGES, MOST_PAGES, "cachedPages");
    this.#table = linear.allocate(this.#capacity * PageRecord.SIZE);
    this.#publish();
  }

  /**
   * Reads frame `gfn` into the cache, or notes that the source has none. Throws what the source throws, PageSourceError for
   * an answer that is none.
   */
  supply(gfn: bigint): void {
    const page = new Uint8Array(PAGE_BYTES);
    const frame = this.#frames(gfn);
    const present = this.read(frame, page);
    // The source may have used this memory's own spaces meanwhile: read this page and others, or disposed of it all.
    if (this.#disposed || this.#frames(gfn) !== frame) return;
    if (this.#used === this.#limit || this.#entries >= this.#limit * 4) this.#flush();
    if ((this.#entries + 1) * 2 > this.#capacity) this.#rehash(this.#capacity * 2);
    let address: number = CODES.NO_MEMORY;
    if (present) {
      address = this.#buffers[this.#used] ?? this.#addBuffer();
      this.#linear.u8.set(page, address);
    }
    if (this.#exports.insertPage(this.#memory.at, gfn, address) === 0) return;
    if (present) this.#used++;
    if (!this.#held.has(gfn)) this.#entries++;
    this.#held.add(gfn);
  }

  /** Every page is read again when it is needed. */
  forget(): void {
    this.#flush();
  }

  /** The page is read again when it is needed; its buffer is used again when the cache is full. */
  invalidate(gfn: bigint): void {
    if (this.#held.has(gfn)) this.#exports.insertPage(this.#memory.at, gfn, CODES.NOT_READ);
  }

  /** Reads a page of the source past the cache; false where the source has none. */
  read(gfn: bigint, into: Uint8Array): boolean {
    if (this.#asked.has(gfn)) {
      throw new PageSourceError(`reading page 0x${gfn.toString(16)} of the source needs that very page`);
    }
    this.#asked.add(gfn);
    try {
      const present: unknown = this.#source.readPage(gfn, into);
      if (typeof present === "boolean") return present;
      const hint = present instanceof Promise ? ": a source cannot wait; see fetching of x86-paging/dump" : "";
      throw new PageSourceError(
        `readPage(0x${gfn.toString(16)}n) of the source returned ${show(present)}, expected true or false${hint}`,
      );
    } finally {
      this.#asked.delete(gfn);
    }
  }

  /** Most pages held at once. */
  get limit(): number {
    return this.#limit;
  }

  /** Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const address of this.#buffers) this.#linear.free(address, PAGE_BYTES);
    this.#linear.free(this.#table, this.#capacity * PageRecord.SIZE);
  }

  #addBuffer(): number {
    const address = this.#linear.allocate(PAGE_BYTES, PAGE_BYTES);
    this.#buffers.push(address);
    return address;
  }

  /** Forgets every page; walks hold no pointers between calls. */
  #flush(): void {
    this.#linear.u8.fill(0, this.#table, this.#table + this.#capacity * PageRecord.SIZE);
    this.#used = 0;
    this.#entries = 0;
    this.#held.clear();
  }

  #rehash(capacity: number): void {
    const table = this.#linear.allocate(capacity * PageRecord.SIZE);
    const [oldTable, oldCapacity] = [this.#table, this.#capacity];
    this.#table = table;
    this.#capacity = capacity;
    this.#publish();
    const page = new PageRecord(this.#linear, oldTable);
    for (let index = 0; index < oldCapacity; index++) {
      page.at = oldTable + index * PageRecord.SIZE;
      if (page.key !== 0n) this.#exports.insertPage(this.#memory.at, page.key - 1n, page.linear);
    }
    this.#linear.free(oldTable, oldCapacity * PageRecord.SIZE);
  }

  #publish(): void {
    this.#memory.pages = this.#table;
    this.#memory.pageMask = this.#capacity - 1;
  }
}
