/** Pages of a source behind the slots: read when a walk first needs them, never written. */
import { CODES, MEMORY, PAGE } from "../abi/index.js";
import type { PageSource } from "../api.js";
import { ConfigError } from "../errors.js";
import type { CoreExports } from "./exports.js";
import type { LinearMemory } from "./linear-memory.js";
import { RecordType } from "./record.js";

const PAGE_BYTES = 4096;
const FIRST_CAPACITY = 256;
/** Walks over two stages read up to 35 tables; a cache must hold those of one walk at once. */
const LEAST_PAGES = 64;
const memoryRecord = new RecordType(MEMORY);
const pageRecord = new RecordType(PAGE);

export class PageCache {
  /** Linear addresses of page-sized buffers, in use up to #used and kept for reuse after a flush. */
  readonly #buffers: number[] = [];
  #used = 0;
  /** Entries of the table: pages held, and frames known to be absent. */
  #entries = 0;
  #table: number;
  #capacity = FIRST_CAPACITY;

  /** `memory` is the MEMORY record that the table is published in; `limit` the most pages held at once. */
  constructor(
    private readonly exports: CoreExports,
    private readonly linear: LinearMemory,
    private readonly memory: number,
    private readonly source: PageSource,
    private readonly limit: number,
  ) {
    if (!Number.isInteger(limit) || limit < LEAST_PAGES) {
      throw new ConfigError(`cachedPages is ${limit}, expected an integer of at least ${LEAST_PAGES}`);
    }
    this.#table = linear.allocate(this.#capacity * pageRecord.size);
    this.#publish();
  }

  /** Reads frame `gfn` into the cache, or notes that the source has none. Throws what the source throws. */
  supply(gfn: bigint): void {
    const page = new Uint8Array(PAGE_BYTES);
    const present = this.source.readPage(gfn, page);
    if (this.#used === this.limit || this.#entries >= this.limit * 4) this.#flush();
    if ((this.#entries + 1) * 2 > this.#capacity) this.#rehash(this.#capacity * 2);
    let address: number = CODES.NO_MEMORY;
    if (present) {
      address = this.#buffers[this.#used] ?? this.#addBuffer();
      this.#used++;
      this.linear.u8.set(page, address);
    }
    this.exports.insertPage(this.memory, gfn, address);
    this.#entries++;
  }

  /** Reads a page past the cache; false where the source has none. */
  read(gfn: bigint, into: Uint8Array): boolean {
    return this.source.readPage(gfn, into);
  }

  dispose(): void {
    for (const address of this.#buffers) this.linear.free(address, PAGE_BYTES);
    this.linear.free(this.#table, this.#capacity * pageRecord.size);
  }

  #addBuffer(): number {
    const address = this.linear.allocate(PAGE_BYTES, PAGE_BYTES);
    this.#buffers.push(address);
    return address;
  }

  /** Forgets every page; walks hold no pointers between calls. */
  #flush(): void {
    this.linear.u8.fill(0, this.#table, this.#table + this.#capacity * pageRecord.size);
    this.#used = 0;
    this.#entries = 0;
  }

  #rehash(capacity: number): void {
    const table = this.linear.allocate(capacity * pageRecord.size);
    const [oldTable, oldCapacity] = [this.#table, this.#capacity];
    this.#table = table;
    this.#capacity = capacity;
    this.#publish();
    for (let index = 0; index < oldCapacity; index++) {
      const record = oldTable + index * pageRecord.size;
      const key = pageRecord.get64(this.linear, record, "KEY");
      if (key === 0n) continue;
      this.exports.insertPage(this.memory, key - 1n, pageRecord.get32(this.linear, record, "LINEAR"));
    }
    this.linear.free(oldTable, oldCapacity * pageRecord.size);
  }

  #publish(): void {
    memoryRecord.set32(this.linear, this.memory, "PAGES", this.#table);
    memoryRecord.set32(this.linear, this.memory, "PAGE_MASK", this.#capacity - 1);
  }
}
