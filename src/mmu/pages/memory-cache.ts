/**
 * What an operation may need, allocated before it starts: rmap descriptors, shadow tables, arrays of shadowed
 * translations, page headers, and one table below 4 GiB for a pae_root. Nothing is allocated half-way.
 */
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { PageMemory } from "../../core/mmu/page-memory.js";
import { OutOfMemoryError } from "../../errors.js";
import type { EncryptionHooks } from "../config/config.js";

/** Enough for a fault, and for the parent entries of a root's tables. */
const DESCS = SHADOW_CODES.FAULT_DESCS;
const DESC_BATCH = 64;
/** A page for each level; or a root, two promoted pages below it and the four tables of its PDPTEs. */
const PAGES = 7;

/** A cache is filled with this share of what there is already, */
const AHEAD = 8;
/** but with no more than this many. */
const MOST_AHEAD = 128;

/** What is in stock: linear addresses, the next one to be taken last. */
export interface Stock {
  readonly tables: readonly number[];
  readonly arrays: readonly number[];
  readonly headers: readonly number[];
  /** The table for the low zone, 0 for none. */
  readonly low: number;
  /** Headers that were ever made. */
  readonly made: number;
  readonly stocked: boolean;
}

export class MemoryCaches {
  readonly #tables: number[] = [];
  readonly #arrays: number[] = [];
  readonly #headers: number[] = [];
  /** The one-page cache of the low zone. */
  #low: number | undefined;

  constructor(
    readonly memory: PageMemory,
    readonly encryption: EncryptionHooks | undefined,
  ) {}

  /**
   * Enough pages for a fault are in stock; the fault path asks this first, and nothing else. The core counts the rmap
   * descriptors itself.
   */
  stocked = false;
  #held = 0;

  /** Until `letGo` nothing counts as stocked: every fault comes by where more is asked. */
  hold(): void {
    this.#held++;
    this.stocked = false;
  }

  letGo(): void {
    this.#held--;
  }

  /**
   * Fills every cache. Throws OutOfMemoryError with all structures as they were (a cache that was filled already
   * keeps what it got). `descs`: rmap descriptors that are needed.
   */
  topUp(needsLow: boolean, descs: number = DESCS): void {
    const { memory } = this;
    if (this.#tables.length < PAGES) this.#fill(this.#tables, (count) => memory.tables(count));
    if (this.#arrays.length < PAGES) this.#fill(this.#arrays, (count) => memory.arrays(count));
    if (this.#headers.length < PAGES) this.#made += this.#fill(this.#headers, (count) => memory.headers(count));
    this.stocked = this.#held === 0;
    while (memory.freeDescs < descs) memory.addDescs(DESC_BATCH);
    if (needsLow && this.#low === undefined) {
      // Tables of freed low pages are among the others: they would gather there if each low page were a new one.
      const table = this.#tables.length > PAGES ? this.#tables.pop()! : memory.tables(1)[0]!;
      this.encryption?.decrypt(BigInt(table));
      this.#low = table;
    }
  }

  /** A header with its table, and its array if the page has translations of its own. The caches were topped up. */
  take(low: boolean, translations: boolean): number {
    const header = this.#headers.pop()!;
    let table: number;
    if (low) {
      table = this.#low!;
      this.#low = undefined;
    } else table = this.#tables.pop()!;
    this.memory.bind(header, table, translations ? this.#arrays.pop()! : 0);
    const enough = this.#tables.length >= PAGES && this.#headers.length >= PAGES && this.#arrays.length >= PAGES;
    this.stocked = enough && this.#held === 0;
    return header;
  }

  /** Takes back a freed page. */
  give(header: number, low: boolean): void {
    const array = this.memory.arrayOf(header);
    const table = this.memory.unbind(header);
    if (low) this.#releaseLow(table);
    this.#tables.push(table);
    if (array !== 0) this.#arrays.push(array);
    this.#headers.push(header);
  }

  /** @internal What a saved state is made of. */
  get stock(): Stock {
    const { stocked } = this;
    const [tables, arrays, headers] = [this.#tables, this.#arrays, this.#headers].map((one) => [...one]);
    return { tables: tables!, arrays: arrays!, headers: headers!, low: this.#low ?? 0, made: this.#made, stocked };
  }

  /** @internal Has this in stock and nothing else. */
  set stock(stock: Stock) {
    this.#tables.splice(0, this.#tables.length, ...stock.tables);
    this.#arrays.splice(0, this.#arrays.length, ...stock.arrays);
    this.#headers.splice(0, this.#headers.length, ...stock.headers);
    this.#low = stock.low === 0 ? undefined : stock.low;
    this.#made = stock.made;
    this.stocked = stock.stocked;
  }

  /** @internal The tables that were decrypted by another owner of the same state are this one's. */
  decryptLow(others: readonly number[]): void {
    const low = this.#low === undefined ? others : [...others, this.#low];
    for (const table of low) this.encryption?.decrypt(BigInt(table));
  }

  /** Gives up the cached low page, if there is one. */
  dropLow(): void {
    if (this.#low === undefined) return;
    this.#releaseLow(this.#low);
    this.#tables.push(this.#low);
    this.#low = undefined;
  }

  /** The one place where a low page goes back to ordinary use, from a freed root or from the cache. */
  #releaseLow(table: number): void {
    this.encryption?.encrypt(BigInt(table));
  }

  /** Frees all memory; nothing of the VM may be used after it, and nothing counts as stocked. */
  dispose(): void {
    this.hold();
    this.dropLow();
    this.memory.dispose();
  }

  /**
   * Fills a cache, with more at a time the more there are already: a VM with many pages allocates seldom. Returns how many
   * were made.
   */
  #fill(cache: number[], make: (count: number) => number[]): number {
    const missing = PAGES - cache.length;
    const wanted = Math.max(missing, Math.min(Math.floor(this.#made / AHEAD), MOST_AHEAD));
    let made: number[];
    try {
      made = make(wanted);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || wanted === missing) throw error;
      // Perhaps it is enough for what is needed now.
      made = make(missing);
    }
    cache.push(...made);
    return made.length;
  }

  /** Headers that were ever made. */
  #made = 0;
}
