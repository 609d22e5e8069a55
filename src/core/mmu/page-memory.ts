/**
 * What shadow pages are made of: headers, tables, arrays of translations, rmap blocks, the map from tables to headers, and
 * the two ways to find a page, by name and by gfn.
 */
import { Allocations } from "../linear/allocations.js";
import type { LinearMemory, Place } from "../linear/linear-memory.js";
import { DescRecord, SpRecord, type VmRecord } from "../records/mmu.js";
import { GfnChains } from "./gfn-chains.js";
import type { MmuCore } from "./mmu-core.js";
import { PageHash } from "./page-hash.js";

const TABLE_BYTES = 4096;
const HEADER_GRAIN = 16;
const DESC_GRAIN = 64;
const MAP_ENTRY_BYTES = 4;
/** Tables that the map has room for beyond those that it needs. */
const MAP_SPARE = 1024;

/** Pieces that were taken at once. */
export interface Block {
  readonly address: number;
  readonly count: number;
}

export class PageMemory {
  /** @internal What was taken so far, by kind, in the order of that. */
  readonly blocks = { tables: [] as Block[], arrays: [] as Block[], headers: [] as Block[], descs: [] as Block[] };
  /** Pages by name. */
  readonly hash: PageHash;
  readonly #chains: GfnChains;
  readonly #linear: LinearMemory;
  readonly #vm: VmRecord;
  readonly #memory: Allocations;
  readonly #header: SpRecord;
  #mapLength = 0;

  /** @internal Throws OutOfMemoryError. */
  constructor({ internals: { exports, linear }, vm }: MmuCore) {
    this.#linear = linear;
    this.#vm = vm;
    this.#memory = new Allocations(linear);
    this.#header = new SpRecord(linear, 0);
    this.#chains = new GfnChains(exports, linear, vm);
    this.hash = new PageHash(linear);
  }

  /** Room for one more page in the hash, and buckets of gfns for all. */
  reserve(): void {
    this.hash.reserve();
    this.#chains.reserve(this.hash.size);
  }

  /** Rmap blocks that are free. */
  get freeDescs(): number {
    return this.#vm.descCount;
  }

  /** Adds `count` free rmap blocks. Throws OutOfMemoryError. */
  addDescs(count: number): void {
    const block = this.#taken(this.blocks.descs, count, DescRecord.SIZE, DESC_GRAIN);
    const desc = new DescRecord(this.#linear, block);
    for (let i = 0; i < count; i++) {
      desc.at = block + i * DescRecord.SIZE;
      desc.more = this.#vm.descFree;
      this.#vm.descFree = desc.at;
    }
    this.#vm.descCount += count;
  }

  #taken(blocks: Block[], count: number, size: number, alignment: number): number {
    const address = this.#memory.take(count * size, alignment);
    blocks.push({ address, count });
    return address;
  }

  /** `count` tables, the first one last. Throws OutOfMemoryError with nothing allocated. */
  tables(count: number): number[] {
    const block = this.#memory.take(TABLE_BYTES * count, TABLE_BYTES);
    try {
      this.#growMap((block >>> 12) + count - 1);
    } catch (error) {
      this.#memory.free(block);
      throw error;
    }
    this.blocks.tables.push({ address: block, count });
    return pieces(block, count, TABLE_BYTES);
  }

  /** `count` arrays of translations, the same way. */
  arrays(count: number): number[] {
    return pieces(this.#taken(this.blocks.arrays, count, TABLE_BYTES, TABLE_BYTES), count, TABLE_BYTES);
  }

  /** `count` headers, the same way. */
  headers(count: number): number[] {
    return pieces(this.#taken(this.blocks.headers, count, SpRecord.SIZE, HEADER_GRAIN), count, SpRecord.SIZE);
  }

  /** A header gets its table, and its array of translations, 0 for none. */
  bind(header: number, table: number, array: number): void {
    const record = this.#of(header);
    record.spt = table;
    record.shadowed = array;
    this.#map(table, header);
  }

  /** The table of a header that is no page any more. */
  unbind(header: number): number {
    const table = this.#of(header).spt;
    this.#map(table, 0);
    return table;
  }

  /** The array of translations of a header. */
  arrayOf(header: number): number {
    return this.#of(header).shadowed;
  }

  /** Gives each page that the core has freed, and its role, and forgets its name. */
  collectFreed(each: (page: number, role: number) => void): void {
    const header = new SpRecord(this.#linear, this.#vm.freed);
    while (header.at !== 0) {
      const page = header.at;
      header.at = header.link(0);
      this.hash.remove(page);
      each(page, this.#of(page).role);
    }
    this.#vm.freed = 0;
  }

  /** @internal Tables that the map has room for, and the bits of a bucket's number. */
  get sizes(): { readonly map: number; readonly chains: number } {
    return { map: this.#mapLength, chains: this.#chains.bits };
  }

  /** @internal Before there is any page: the same as another memory's, so that both grow at the same times. */
  resize(sizes: { readonly map: number; readonly chains: number }, places: readonly Place[]): void {
    this.#linear.atPlaces(places, () => {
      this.#chains.grow(sizes.chains);
      if (sizes.map > this.#mapLength) this.#remap(sizes.map);
    });
  }

  /** @internal Where the map and the buckets lie. */
  get places(): Place[] {
    const map = { address: this.#vm.pageMap, size: this.#mapLength * MAP_ENTRY_BYTES };
    return this.#mapLength === 0 ? [this.#chains.place] : [this.#chains.place, map];
  }

  /** @internal Every block lies where a state asked for it. */
  isPlaced = true;

  /** Gives all of its memory back. */
  dispose(): void {
    this.#memory.release();
    if (this.#mapLength !== 0) this.#linear.free(this.#vm.pageMap, this.#mapLength * MAP_ENTRY_BYTES);
    this.#chains.dispose();
  }

  #of(header: number): SpRecord {
    this.#header.at = header;
    return this.#header;
  }

  /** Makes room in the map for the tables up to page `last` of linear memory. */
  #growMap(last: number): void {
    if (last < this.#mapLength) return;
    this.#remap(Math.max(this.#mapLength * 2, last + MAP_SPARE));
  }

  #remap(length: number): void {
    const map = this.#linear.allocate(length * MAP_ENTRY_BYTES);
    const old = this.#vm.pageMap;
    if (old !== 0) {
      this.#linear.u32.copyWithin(map >>> 2, old >>> 2, (old >>> 2) + this.#mapLength);
      this.#linear.free(old, this.#mapLength * MAP_ENTRY_BYTES);
    }
    this.#vm.pageMap = map;
    this.#mapLength = length;
  }

  #map(table: number, header: number): void {
    this.#linear.u32[(this.#vm.pageMap >>> 2) + (table >>> 12)] = header;
  }
}

/** Addresses of the pieces of a block, the first one last. */
function pieces(block: number, count: number, size: number): number[] {
  return Array.from({ length: count }, (_, index) => block + (count - 1 - index) * size);
}
