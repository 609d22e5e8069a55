/** The TDP MMU's record and operations (assembly/tdp). */
import type { LinearMemory } from "../linear/linear-memory.js";
import { SpRecord, TDP_OFFSET, TdpRecord, type VmRecord } from "../records/mmu.js";
import type { ShadowExports } from "../wasm/shadow-exports.js";
import { linkedPages, linkPages } from "./linked-pages.js";
import type { MmuCore, SlotRef } from "./mmu-core.js";

export class TdpCore {
  readonly #record: TdpRecord;
  readonly #exports: ShadowExports;
  readonly #linear: LinearMemory;
  readonly #vm: VmRecord;

  /** @internal Throws OutOfMemoryError. */
  constructor({ internals: { exports, linear }, memory, vm }: MmuCore) {
    this.#exports = exports;
    this.#linear = linear;
    this.#vm = vm;
    this.#record = new TdpRecord(linear, memory.take(TdpRecord.SIZE));
  }

  /** Direct roots are its own from here on. */
  init(): void {
    this.#exports.tdpInit(this.#record.at);
    this.#vm.tdpMmu = this.#record.at;
  }

  /** Pages in its pool. */
  get poolCount(): number {
    return this.#record.poolCount;
  }

  /** Pages that it counts, roots included. */
  get pageCount(): number {
    return this.#record.pageCount;
  }

  /** Puts a page into its pool. */
  fillPool(page: number): void {
    this.#exports.tdpFillPool(this.#vm.at, page);
  }

  /** The root of a role, with a reference for the caller; takes a page of the pool where it is new. */
  root(role: number): number {
    return this.#exports.getRoot(this.#vm.at, role);
  }

  /** Tables that splitting every huge page of gfns [start, end) of a slot takes. */
  countSplits(slot: SlotRef, start: bigint, end: bigint): number {
    return this.#exports.countSplits(this.#vm.at, slot.at, start, end);
  }

  /** Splits them, with pages of the pool. */
  splitLeaves(slot: SlotRef, start: bigint, end: bigint): void {
    this.#exports.splitLeaves(this.#vm.at, slot.at, start, end);
  }

  /** Roots, newest first, invalid ones that are still referenced included. */
  roots(): number[] {
    return linkedPages(this.#linear, this.#record.at + TDP_OFFSET.roots);
  }

  /** @internal Pages of the pool, the next one to be taken first. */
  pool(): number[] {
    const pages: number[] = [];
    const page = new SpRecord(this.#linear, this.#record.pool);
    for (; page.at !== 0; page.at = page.link(0)) pages.push(page.at);
    return pages;
  }

  /** @internal Has these pages and no others, in the order of `roots`, `tables` and `pool`. */
  adopt(roots: readonly number[], tables: readonly number[], pool: readonly number[]): void {
    const record = this.#record;
    linkPages(this.#linear, record.at + TDP_OFFSET.roots, roots);
    linkPages(this.#linear, record.at + TDP_OFFSET.pages, tables);
    record.pool = pool[0] ?? 0;
    pool.forEach((page, index) => {
      new SpRecord(this.#linear, page).setLink(0, pool[index + 1] ?? 0);
    });
    record.poolCount = pool.length;
    record.pageCount = roots.length + tables.length;
  }

  /** The other pages. */
  tables(): number[] {
    return linkedPages(this.#linear, this.#record.at + TDP_OFFSET.pages);
  }
}
