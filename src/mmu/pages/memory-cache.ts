/**
 * What an operation may need, allocated before it starts: rmap descriptors, shadow tables, arrays of shadowed
 * translations, page headers, and one table below 4 GiB for a pae_root. Nothing is allocated half-way.
 */
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { OutOfMemoryError } from "../../errors.js";
import type { EncryptionHooks } from "../config/config.js";
import { Allocations } from "../memory/allocations.js";
import { descRecord, PAGE_WORD, pageRecord, VM_WORD, vmRecord } from "../memory/records.js";

const TABLE = 4096;
/** Enough for a fault, and for the parent entries of a root's tables. */
const DESCS = SHADOW_CODES.FAULT_DESCS;
const DESC_BATCH = 64;
/** A page for each level; or a root, two promoted pages below it and the four tables of its PDPTEs. */
const PAGES = 7;

/** A cache is filled with this share of what there is already, */
const AHEAD = 8;
/** but with no more than this many. */
const MOST_AHEAD = 128;

export class MemoryCaches {
  readonly #tables: number[] = [];
  readonly #arrays: number[] = [];
  readonly #headers: number[] = [];
  /** The one-page cache of the low zone. */
  #low: number | undefined;
  readonly #memory: Allocations;

  constructor(
    readonly linear: LinearMemory,
    readonly vm: number,
    readonly encryption: EncryptionHooks | undefined,
  ) {
    this.#memory = new Allocations(linear);
  }

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
    const { linear } = this;
    this.#fill(this.#tables, TABLE, TABLE, (last) => this.#growMap(last >>> 12));
    this.#fill(this.#arrays, TABLE, TABLE);
    this.#fill(this.#headers, pageRecord.size, 16);
    this.stocked = this.#held === 0;
    while (linear.u32[(this.vm >>> 2) + VM_WORD.descCount]! < descs) this.#addDescs();
    if (needsLow && this.#low === undefined) {
      // Tables of freed low pages are among the others: they would gather there if each low page were a new one.
      const table = this.#tables.length > PAGES ? this.#tables.pop()! : this.#allocateTable();
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
    const words = this.linear.u32;
    words[(header >>> 2) + PAGE_WORD.spt] = table;
    words[(header >>> 2) + PAGE_WORD.shadowed] = translations ? this.#arrays.pop()! : 0;
    const enough = this.#tables.length >= PAGES && this.#headers.length >= PAGES && this.#arrays.length >= PAGES;
    this.stocked = enough && this.#held === 0;
    this.#map(table, header);
    return header;
  }

  /** Takes back a freed page. */
  give(header: number, low: boolean): void {
    const words = this.linear.u32;
    const table = words[(header >>> 2) + PAGE_WORD.spt]!;
    const array = words[(header >>> 2) + PAGE_WORD.shadowed]!;
    this.#map(table, 0);
    if (low) this.#releaseLow(table);
    this.#tables.push(table);
    if (array !== 0) this.#arrays.push(array);
    this.#headers.push(header);
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
    this.#memory.release();
    const map = vmRecord.get32(this.linear, this.vm, "PAGE_MAP");
    if (map !== 0) this.linear.free(map, this.#mapLength * 4);
  }

  #mapLength = 0;

  /**
   * Fills a cache, with more at a time the more there are already: a VM with many pages allocates seldom. `ready` prepares
   * for what lies as far as the last of them.
   */
  #fill(cache: number[], size: number, alignment: number, ready: (last: number) => void = () => {}): void {
    const missing = PAGES - cache.length;
    if (missing <= 0) return;
    const wanted = Math.max(missing, Math.min(Math.floor(this.#made / AHEAD), MOST_AHEAD));
    let block: number;
    let count = wanted;
    try {
      block = this.#take(size * wanted, alignment, (address) => ready(address + size * (wanted - 1)));
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || wanted === missing) throw error;
      // Perhaps it is enough for what is needed now.
      count = missing;
      block = this.#take(size * count, alignment, (address) => ready(address + size * (count - 1)));
    }
    for (let i = count - 1; i >= 0; i--) cache.push(block + i * size);
    if (cache === this.#headers) this.#made += count;
  }

  /** Headers that were ever made. */
  #made = 0;

  #take(size: number, alignment: number, ready: (address: number) => void): number {
    const address = this.#memory.take(size, alignment);
    try {
      ready(address);
    } catch (error) {
      this.#memory.free(address);
      throw error;
    }
    return address;
  }

  #allocateTable(): number {
    return this.#take(TABLE, TABLE, (table) => this.#growMap(table >>> 12));
  }

  #growMap(page: number): void {
    if (page < this.#mapLength) return;
    const length = Math.max(this.#mapLength * 2, page + 1024);
    const map = this.linear.allocate(length * 4);
    const old = vmRecord.get32(this.linear, this.vm, "PAGE_MAP");
    if (old !== 0) {
      this.linear.u32.copyWithin(map >>> 2, old >>> 2, (old >>> 2) + this.#mapLength);
      this.linear.free(old, this.#mapLength * 4);
    }
    vmRecord.set32(this.linear, this.vm, "PAGE_MAP", map);
    this.#mapLength = length;
  }

  #map(table: number, header: number): void {
    this.linear.u32[(vmRecord.get32(this.linear, this.vm, "PAGE_MAP") >>> 2) + (table >>> 12)] = header;
  }

  #addDescs(): void {
    const { linear, vm } = this;
    const block = this.#memory.take(DESC_BATCH * descRecord.size, 64);
    for (let i = 0; i < DESC_BATCH; i++) {
      const desc = block + i * descRecord.size;
      descRecord.set32(linear, desc, "MORE", vmRecord.get32(linear, vm, "DESC_FREE"));
      vmRecord.set32(linear, vm, "DESC_FREE", desc);
    }
    vmRecord.set32(linear, vm, "DESC_COUNT", vmRecord.get32(linear, vm, "DESC_COUNT") + DESC_BATCH);
  }
}
