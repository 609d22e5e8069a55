/** Ranges of addresses in ascending order, as columns, because there may be a million. */
import { NumberList } from "./extent-list.js";
import type { Extent, MemoryRange } from "./presence.js";

export class RangeList {
  readonly #starts = new NumberList();
  readonly #ends = new NumberList();
  #bytes = 0;

  get extent(): Extent {
    return { bytes: this.#bytes, ranges: this.#starts.length };
  }

  /** Adds a range that starts where the last one ends, or behind it. */
  append(start: number, end: number): void {
    this.#bytes += end - start;
    const last = this.#ends.length - 1;
    if (last >= 0 && this.#ends.get(last) === start) {
      this.#ends.set(last, end);
      return;
    }
    this.#starts.push(start);
    this.#ends.push(end);
  }

  ranges(): MemoryRange[] {
    return Array.from({ length: this.#starts.length }, (_, i) => {
      const start = this.#starts.get(i);
      return { gpa: BigInt(start), size: BigInt(this.#ends.get(i) - start) };
    });
  }

  /** True if a byte of [from, to) is in a range. */
  touches(from: number, to: number): boolean {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends.get(middle) > from) high = middle;
      else low = middle + 1;
    }
    return low < this.#starts.length && this.#starts.get(low) < to;
  }
}
