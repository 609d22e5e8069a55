/**
 * Ground truth for a dirty log: a copy of the slot as a migration would have it. A page whose contents differ from the
 * copy must be in the log, whoever wrote it.
 */
import type { VirtualMachine } from "../../../src/mmu/index.js";
import type { Memslot } from "../../../src/mmu/memory/memslots.js";

class DirtyTruth {
  readonly #copy: Uint8Array;

  constructor(
    readonly vm: VirtualMachine,
    readonly slot: Memslot,
  ) {
    this.#copy = this.#bytes(0, slot.pages).slice();
  }

  #bytes(page: number, count: number): Uint8Array {
    const from = this.slot.ram + page * 4096;
    return this.vm.state.core.internals.linear.u8.subarray(from, from + count * 4096);
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

/** The dirty logs of slots 0 and 1 of a VM, each with its truth while it is on. */
export class DirtyLogs {
  readonly #truths = new Map<number, DirtyTruth>();

  /** `spacesOf` names the address spaces in which a slot has a log. */
  constructor(
    readonly vm: VirtualMachine,
    readonly manualDirtyLog: number,
    readonly spacesOf: (id: number) => readonly number[] = () => [0],
  ) {}

  isOn(id: number): boolean {
    return this.#truths.has(id);
  }

  /** The slot is logged from now on, or no more; a truth that exists goes on. */
  set(id: number, on: boolean): void {
    if (!on) this.#truths.delete(id);
    else if (!this.#truths.has(id)) this.#truths.set(id, new DirtyTruth(this.vm, this.#slot(id)));
  }

  #slot(id: number): Memslot {
    return this.vm.state.slots.find(0, id)!;
  }

  /** Takes the log as a migration does, and clears a part of it where clearing is separate; `choice` says which. */
  collect(id: number, choice: number): void {
    const truth = this.#truths.get(id);
    if (truth === undefined) return;
    const spaces = this.spacesOf(id);
    const pages = [...new Set(spaces.flatMap((space) => this.vm.getDirtyLog(id, space)))];
    truth.check(pages);
    if (this.manualDirtyLog === 0) {
      truth.copy(pages);
      return;
    }
    const first = this.#slot(id).pages > 64 ? (choice % 2) * 64 : 0;
    const cleared = pages.filter((page) => page >= first && choice % 4 < 2);
    for (const space of spaces) this.vm.clearDirtyLog(id, first, this.#slot(id).pages - first, cleared, space);
    truth.copy(cleared);
  }
}
