/** The slots as the core finds them: SLOT records in ascending order, and where there are many an index by their addresses. */
import type { LinearMemory } from "../linear/linear-memory.js";
import { type MemoryRecord, SlotRangeRecord, SlotRecord } from "../records/walk.js";
import type { Slot } from "./slot-config.js";

/** So few slots are looked through. */
const FEW = 4;
/** Keys of one magnitude are at most 2^12: half a megabyte of index for every 4 GiB of addresses. */
const MOST_BITS = 12;

export class SlotTable {
  readonly #linear: LinearMemory;
  readonly #slots: readonly Slot[];
  readonly #records: number;
  readonly #keys: number;
  readonly #bits: number;
  readonly #index: number;

  /** Throws OutOfMemoryError; nothing stays allocated then. */
  constructor(linear: LinearMemory, slots: readonly Slot[]) {
    this.#linear = linear;
    this.#slots = slots;
    const many = slots.length > FEW;
    const last = slots.at(-1);
    this.#bits = many ? Math.min(MOST_BITS, Math.ceil(Math.log2(slots.length))) : 0;
    this.#keys = many ? this.#keyOf(last!.gpa + BigInt(last!.size) - 1n) + 1 : 0;
    // One record more than there are slots: an empty slot to start with where there is none.
    this.#records = linear.allocate(SlotRecord.SIZE * (slots.length + 1));
    try {
      this.#index = many ? linear.allocate(SlotRangeRecord.SIZE * this.#keys) : 0;
    } catch (error) {
      linear.free(this.#records, SlotRecord.SIZE * (slots.length + 1));
      throw error;
    }
    this.#write();
  }

  /** The core's `keyOf` (assembly/memory/resolve.ts). */
  #keyOf(gpa: bigint): number {
    const page = gpa >> 12n;
    const shift = Math.max(page.toString(2).length - 1 - this.#bits, 0);
    return shift * 2 ** this.#bits + Number(page >> BigInt(shift));
  }

  #write(): void {
    const record = new SlotRecord(this.#linear, this.#records);
    for (const [index, { gpa, size, linear, readOnly }] of this.#slots.entries()) {
      record.at = this.#records + index * SlotRecord.SIZE;
      record.base = gpa;
      record.size = BigInt(size);
      record.linear = linear;
      record.readOnly = readOnly ? 1 : 0;
    }
    if (this.#index === 0) return;
    const range = new SlotRangeRecord(this.#linear, this.#index);
    const at = (key: number) => {
      range.at = this.#index + key * SlotRangeRecord.SIZE;
      return range;
    };
    // Keys that no slot meets have an empty range, as allocated.
    for (const [number, { gpa, size }] of this.#slots.entries()) {
      const end = this.#keyOf(gpa + BigInt(size) - 1n);
      for (let key = this.#keyOf(gpa); key <= end; key++) {
        if (at(key).end === 0) range.first = number;
        range.end = number + 1;
      }
    }
  }

  /** The memory has these slots from now on. */
  publish(memory: MemoryRecord): void {
    memory.slots = this.#records;
    memory.slotCount = this.#slots.length;
    memory.index = this.#index;
    memory.indexKeys = this.#keys;
    memory.indexBits = this.#bits;
    memory.lastSlot = this.#records;
  }

  dispose(): void {
    this.#linear.free(this.#records, SlotRecord.SIZE * (this.#slots.length + 1));
    if (this.#index !== 0) this.#linear.free(this.#index, SlotRangeRecord.SIZE * this.#keys);
  }
}
