/** Where guest-physical addresses lie in linear memory, for accesses of the host: found without a call or a bigint. */
import type { Slot } from "./slot-config.js";

/** The slots of a memory; the one that was found last is at hand in the fields. */
export class Ram {
  /** First guest-physical address of that slot. */
  base = 0;
  /** Its size in bytes, 0 before one was found. */
  bytes = 0;
  /** The same where it may be written, else 0. */
  writable = 0;
  /** Linear address of its first byte. */
  linear = 0;
  #bases = new Float64Array(0);
  #slots: readonly Slot[] = [];

  /** Takes other slots, in ascending order; none is at hand. */
  replace(slots: readonly Slot[]): void {
    this.#slots = slots;
    this.#bases = Float64Array.from(slots, ({ gpa }) => Number(gpa));
    this.base = 0;
    this.bytes = 0;
    this.writable = 0;
  }

  /** Has the slot of `pa` at hand; false, with another one there, where no slot holds it. */
  find(pa: number): boolean {
    if (pa >= this.base && pa - this.base < this.bytes) return true;
    const bases = this.#bases;
    let low = 0;
    let high = bases.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (bases[middle]! <= pa) low = middle + 1;
      else high = middle;
    }
    const slot = this.#slots[low - 1];
    if (slot === undefined || pa - bases[low - 1]! >= slot.size) return false;
    this.base = bases[low - 1]!;
    this.bytes = slot.size;
    this.writable = slot.readOnly || slot.window ? 0 : slot.size;
    this.linear = slot.linear;
    return true;
  }
}
