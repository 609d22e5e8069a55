/**
 * The TDP MMU of a VM: tables for two-dimensional paging that belong to a root each, found by walking instead of by
 * rmap and hash. The core does the work (assembly/tdp); here are its memory and what the host asks for.
 */
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { CoreExports } from "../../core/exports.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import type { Memslot } from "../memory/memslots.js";
import { TDP_WORD, tdpRecord, vmRecord } from "../memory/records.js";
import { linkedPages } from "./linked-pages.js";
import type { MemoryCaches } from "./memory-cache.js";

/** Enough for one fault, or one root. */
const PAGES: number = SHADOW_CODES.FAULT_TDP_PAGES;

export class TdpMmu {
  readonly #exports: CoreExports;
  readonly #caches: MemoryCaches;
  readonly #word: number;

  /** `pointer` is a zeroed TDP record. */
  constructor(
    readonly linear: LinearMemory,
    exports: CoreExports,
    readonly vm: number,
    readonly pointer: number,
    caches: MemoryCaches,
  ) {
    this.#exports = exports;
    this.#caches = caches;
    this.#word = (pointer >>> 2) + TDP_WORD.poolCount;
    exports.tdpInit(pointer);
    vmRecord.set32(linear, vm, "TDP_MMU", pointer);
  }

  /** Fills the pool for `count` pages. Throws OutOfMemoryError; the pool keeps what it got. */
  topUp(count = PAGES): void {
    while (this.linear.u32[this.#word]! < count) {
      this.#caches.topUp(false);
      this.#exports.tdpFillPool(this.vm, this.#caches.take(false, false));
    }
  }

  /** The root of `role`, with a reference for the caller. Throws OutOfMemoryError with nothing changed. */
  root(role: number): number {
    this.topUp(1);
    return this.#exports.getRoot(this.vm, role);
  }

  /** Fills the pool for splitting every huge page of a slot. Throws OutOfMemoryError. */
  reserveSplits(slot: Memslot): void {
    this.topUp(this.#exports.countSplits(this.vm, slot.pointer, slot.base, slot.base + BigInt(slot.pages)));
  }

  /** Splits the huge pages of gfns [start, end) of a slot into pages of 4 KiB; `reserveSplits` came before. */
  split(slot: Memslot, start: bigint, end: bigint): void {
    this.#exports.splitLeaves(this.vm, slot.pointer, start, end);
  }

  /** Headers of all pages: roots, newest first, invalid ones that are still referenced included; then the others. */
  pages(): number[] {
    const list = (name: string) => linkedPages(this.linear, this.pointer + tdpRecord.offset(name));
    return [...list("ROOTS"), ...list("PAGES")];
  }
}
