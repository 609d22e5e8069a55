/**
 * Ground truth for a dirty log: a copy of the slot as a migration would have it. A page whose contents differ from the
 * copy must be in the log, whoever wrote it.
 */
import type { VirtualMachine } from "../../../src/mmu/index.js";
import type { Memslot } from "../../../src/mmu/memslots.js";

export class DirtyTruth {
  readonly #copy: Uint8Array;

  constructor(
    readonly vm: VirtualMachine,
    readonly slot: Memslot,
  ) {
    this.#copy = this.#bytes(0, slot.pages).slice();
  }

  #bytes(page: number, count: number): Uint8Array {
    const from = this.slot.ram + page * 4096;
    return this.vm.linear.u8.subarray(from, from + count * 4096);
  }

  /** Throws where a page was written and is not in the log. */
  check(logged: Iterable<number>): void {
    const known = new Set(logged);
    for (let page = 0; page < this.slot.pages; page++) {
      if (known.has(page)) continue;
      const was = this.#copy.subarray(page * 4096, page * 4096 + 4096);
      if (Buffer.compare(was, this.#bytes(page, 1)) !== 0)
        throw new Error(`slot ${this.slot.id}: page ${page} is lost`);
    }
  }

  /** The log was cleared for these pages: they are copied now. */
  copy(pages: Iterable<number>): void {
    for (const page of pages) this.#copy.set(this.#bytes(page, 1), page * 4096);
  }
}
