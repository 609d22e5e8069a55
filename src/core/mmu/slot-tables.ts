/** The slots of each address space as the core sees them: MEMSLOT records for the MMU, RAM for walks of the guest's tables. */

import type { LinearMemory } from "../linear/linear-memory.js";
import { SlotsetRecord } from "../records/mmu.js";
import { MemoryRecord, SlotRecord } from "../records/walk.js";
import type { MmuCore } from "./mmu-core.js";

/** Normal and system-management mode. */
const SPACES = 2;

/** RAM that walks may read. */
export interface RamSlot {
  /** First guest-physical address. */
  readonly gpa: bigint;
  /** Bytes. */
  readonly size: number;
  /** Linear address. */
  readonly linear: number;
  /** Accessed and dirty bits are never written. */
  readonly readOnly: boolean;
}

export class SlotTables {
  readonly #linear: LinearMemory;
  readonly #sets: readonly SlotsetRecord[];
  /** Each with its SLOT records behind it. */
  readonly #memories: readonly MemoryRecord[];

  /** @internal `most`: slots that an address space can have. Throws OutOfMemoryError. */
  constructor({ internals: { linear }, memory, vm }: MmuCore, most: number) {
    this.#linear = linear;
    const spaces = Array.from({ length: SPACES }, (_, space) => {
      const set = new SlotsetRecord(linear, memory.take(SlotsetRecord.SIZE));
      vm.setSlots(space, set.at);
      set.generation = BigInt(space);
      // One record more: an empty slot behind the others, to start with.
      return { set, ram: new MemoryRecord(linear, memory.take(MemoryRecord.SIZE + (most + 1) * SlotRecord.SIZE)) };
    });
    this.#sets = spaces.map(({ set }) => set);
    this.#memories = spaces.map(({ ram }) => ram);
    for (let space = 0; space < SPACES; space++) this.publishRam(space, []);
  }

  /** The memory of an address space that walks go through. */
  memory(space: number): MemoryRecord {
    return this.#memories[space]!;
  }

  /** Memslots generation. */
  generation(space: number): bigint {
    return this.#sets[space]!.generation;
  }

  setGeneration(space: number, generation: bigint): void {
    this.#sets[space]!.generation = generation;
  }

  /** The slots of an address space, in ascending order of gfns. */
  publish(space: number, slots: readonly { readonly at: number }[]): void {
    const set = this.#sets[space]!;
    slots.forEach(({ at }, index) => {
      set.setSlots(index, at);
    });
    set.count = slots.length;
    set.last = 0;
  }

  /** The RAM of an address space, in ascending order. */
  publishRam(space: number, slots: readonly RamSlot[]): void {
    const memory = this.#memories[space]!;
    const table = memory.at + MemoryRecord.SIZE;
    const record = new SlotRecord(this.#linear, table);
    for (const slot of slots) {
      record.base = slot.gpa;
      record.size = BigInt(slot.size);
      record.linear = slot.linear;
      record.readOnly = slot.readOnly ? 1 : 0;
      record.at += SlotRecord.SIZE;
    }
    record.size = 0n;
    memory.slots = table;
    memory.slotCount = slots.length;
    memory.lastSlot = record.at;
  }
}
