/**
 * The TDP MMU of a VM: tables for two-dimensional paging that belong to a root each, found by walking instead of by
 * rmap and hash. The core does the work (assembly/tdp); here are its memory and what the host asks for.
 */
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { TdpCore } from "../../core/mmu/tdp-core.js";
import type { Memslot } from "../memory/memslots.js";
import type { MemoryCaches } from "./memory-cache.js";

/** Enough for one fault, or one root. */
const PAGES: number = SHADOW_CODES.FAULT_TDP_PAGES;

export class TdpMmu {
  /** @internal */
  readonly core: TdpCore;
  readonly #caches: MemoryCaches;

  constructor(core: TdpCore, caches: MemoryCaches) {
    this.core = core;
    this.#caches = caches;
    core.init();
  }

  /** Fills the pool for `count` pages. Throws OutOfMemoryError; the pool keeps what it got. */
  topUp(count = PAGES): void {
    while (this.core.poolCount < count) {
      this.#caches.topUp(false);
      this.core.fillPool(this.#caches.take(false, false));
    }
  }

  /** The root of `role`, with a reference for the caller. Throws OutOfMemoryError with nothing changed. */
  root(role: number): number {
    this.topUp(1);
    return this.core.root(role);
  }

  /** Fills the pool for splitting every huge page of a slot. Throws OutOfMemoryError. */
  reserveSplits(slot: Memslot): void {
    this.topUp(this.core.countSplits(slot.core, slot.base, slot.base + BigInt(slot.pages)));
  }

  /** Splits the huge pages of gfns [start, end) of a slot into pages of 4 KiB; `reserveSplits` came before. */
  split(slot: Memslot, start: bigint, end: bigint): void {
    this.core.splitLeaves(slot.core, start, end);
  }

  /** Headers of all pages: roots, newest first, invalid ones that are still referenced included; then the others. */
  pages(): number[] {
    return [...this.core.roots(), ...this.core.tables()];
  }

  /** How many pages the core counts. */
  get pageCount(): number {
    return this.core.pageCount;
  }
}
