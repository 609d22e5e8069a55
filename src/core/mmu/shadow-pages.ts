/** Looking at shadow pages: their headers, their entries, and the lists that lead to them. A page's name is its header. */
import { bitOf } from "../../abi/index.js";
import { SPTE } from "../../abi/spte.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { DescRecord, SpRecord, VM_OFFSET, type VmRecord } from "../records/mmu.js";
import type { SpaceRecord } from "../records/walk.js";
import { linkedPages } from "./linked-pages.js";
import { hasPdptes } from "./page-hash.js";

const ADDRESS = bitOf(SPTE, "ADDRESS");
const TABLE_BYTES = 4096;
const SPTE_BYTES = 8;
/** An rmap head: bit 0 says that it points to a DESC record, not to the only SPTE. */
const MANY = 1;
/** GOLDEN_RATIO_64, by which buckets of gfns are found. */
const CHAIN_HASH = 0x61c8864680b583ebn;

/** Linear address of entry `index` of a table: what rmaps hold. */
export function sptepOf(table: number, index: number): number {
  return table + SPTE_BYTES * index;
}

/** The table, and the index in it, of an entry's linear address. */
export function placeOf(sptep: number): { readonly table: number; readonly index: number } {
  const index = (sptep % TABLE_BYTES) / SPTE_BYTES;
  return { table: sptep - SPTE_BYTES * index, index };
}

/** Number of a gfn's bucket; `shift` is VM.CHAIN_SHIFT. */
export function bucketOf(gfn: bigint, shift: number): number {
  return Number(BigInt.asUintN(64, gfn * CHAIN_HASH) >> BigInt(shift));
}

export class ShadowPages {
  readonly #linear: LinearMemory;
  readonly #vm: VmRecord;
  /** For the single fields of hot paths. */
  readonly #header: SpRecord;

  constructor(linear: LinearMemory, vm: VmRecord) {
    this.#linear = linear;
    this.#vm = vm;
    this.#header = new SpRecord(linear, 0);
  }

  /** The header of a page. */
  header(page: number): SpRecord {
    return new SpRecord(this.#linear, page);
  }

  role(page: number): number {
    return this.#of(page).role;
  }

  low(page: number): number {
    return this.#of(page).low;
  }

  /** `change` more contexts have a page as their current root; 0 is none. */
  countCurrent(page: number, change: number): void {
    if (page !== 0) this.#of(page).current += change;
  }

  #of(page: number): SpRecord {
    this.#header.at = page;
    return this.#header;
  }

  /** Whether its latched PDPTEs are those of a space. */
  hasPdptes(page: number, space: SpaceRecord): boolean {
    return hasPdptes(this.#linear, page, space);
  }

  /** Entry `index` of a page's table. */
  spte(page: number, index: number): bigint {
    return this.entry(this.#of(page).spt, index);
  }

  setSpte(page: number, index: number, spte: bigint): void {
    this.#linear.u64[(this.#of(page).spt >>> 3) + index] = spte;
  }

  /** Entry `index` of the table at a linear address. */
  entry(table: number, index: number): bigint {
    return this.#linear.u64[(table >>> 3) + index]!;
  }

  /** gfn << 12 | access behind entry `index`; 0 where the page has no translations of its own. */
  shadowed(page: number, index: number): bigint {
    const { shadowed } = this.#of(page);
    return shadowed === 0 ? 0n : this.#linear.u64[(shadowed >>> 3) + index]!;
  }

  /** The words of the table at a linear address that are neither zero nor `empty`, by index. */
  words(table: number, empty: bigint): Map<number, bigint> {
    const { u32, u64 } = this.#linear;
    const [low, high] = [Number(BigInt.asUintN(32, empty)), Number(empty >> 32n)];
    const words = new Map<number, bigint>();
    // Most are empty: no bigint is made of them.
    for (let index = 0, at = table >>> 2; index < TABLE_BYTES / SPTE_BYTES; index++, at += 2) {
      if (u32[at] === 0 && u32[at + 1] === 0) continue;
      if (u32[at] === low && u32[at + 1] === high) continue;
      words.set(index, u64[(table >>> 3) + index]!);
    }
    return words;
  }

  /** Linear address of the table that an entry leads to: shadow tables lie in the normal zone or the low one. */
  tableOf(spte: bigint): number {
    return Number(BigInt.asUintN(32, spte & ADDRESS));
  }

  /** The page whose table lies at a linear address, 0 for none. */
  pageOfTable(table: number): number {
    return this.#linear.u32[(this.#vm.pageMap >>> 2) + (table >>> 12)]!;
  }

  /** @internal Pages that have a table in one of these blocks. */
  bound(blocks: readonly { readonly address: number; readonly count: number }[]): number[] {
    const tables = blocks.flatMap(({ address, count }) =>
      Array.from({ length: count }, (_, i) => address + i * TABLE_BYTES),
    );
    return tables.map((table) => this.pageOfTable(table)).filter((page) => page !== 0);
  }

  /** The active pages, newest first. */
  active(): number[] {
    return linkedPages(this.#linear, this.#vm.at + VM_OFFSET.active);
  }

  /** SPTEs that lead to a page. */
  parents(page: number): number[] {
    return this.rmap(this.#of(page).parents);
  }

  /** Linear addresses of the SPTEs in an rmap, given its head. */
  rmap(head: number): number[] {
    if (head === 0) return [];
    if ((head & MANY) === 0) return [head];
    const found: number[] = [];
    const desc = new DescRecord(this.#linear, head - MANY);
    for (; desc.at !== 0; desc.at = desc.more) {
      for (let index = 0; index < desc.count; index++) found.push(desc.sptes(index));
    }
    return found;
  }

  /** Free rmap blocks; no more than `most` are counted. */
  freeDescs(most: number): number {
    const desc = new DescRecord(this.#linear, this.#vm.descFree);
    let free = 0;
    for (; desc.at !== 0 && free <= most; desc.at = desc.more) free++;
    return free;
  }

  /** Whether a page is in the bucket of its gfn. */
  isInChain(page: number): boolean {
    const header = new SpRecord(this.#linear, page);
    const bucket = bucketOf(header.gfn, this.#vm.chainShift);
    header.at = this.#linear.u32[(this.#vm.chains >>> 2) + bucket]!;
    while (header.at !== 0 && header.at !== page) header.at = header.chain;
    return header.at !== 0;
  }
}
