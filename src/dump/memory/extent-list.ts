/** What a dump declares: parts of guest-physical memory, as columns, because there may be a million. */

/** Stands for the file offset of memory that is all zero. */
export const ZERO = -1;
/** Of memory that the writer left out: it was there, and its bytes are unknown. */
export const EXCLUDED = -2;
/** Of memory whose bytes the file says it has, behind its end. */
export const CUT = -3;

const PAGE = 4096;

/** Numbers in a typed array that grows. */
export class NumberList {
  #values = new Float64Array(16);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get(index: number): number {
    return this.#values[index]!;
  }

  set(index: number, value: number): void {
    this.#values[index] = value;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = new Float64Array(this.#length * 2);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#length++] = value;
  }

  /** A copy of exactly what is in it. */
  toArray(): Float64Array {
    return this.#values.slice(0, this.#length);
  }
}

/** Extents in the order in which the dump has them; they may overlap. */
export class ExtentList {
  readonly #gpas = new NumberList();
  readonly #ends = new NumberList();
  readonly #offsets = new NumberList();

  get length(): number {
    return this.#gpas.length;
  }

  /**
   * Adds `size` bytes of memory from `gpa` on, below 2^52, whose first byte is at `offset` in the file, or which are
   * ZERO, EXCLUDED or CUT.
   * An empty extent is no extent.
   */
  add(gpa: number, size: number, offset: number): void {
    if (size === 0) return;
    this.#gpas.push(gpa);
    this.#ends.push(gpa + size);
    this.#offsets.push(offset);
  }

  gpa(index: number): number {
    return this.#gpas.get(index);
  }

  /** The address behind the last byte. */
  end(index: number): number {
    return this.#ends.get(index);
  }

  offset(index: number): number {
    return this.#offsets.get(index);
  }

  /**
   * Adds memory as `add` does, of whose bytes the file has only the first `available`: the rest is cut, from the start
   * of the page in which the file ends.
   */
  addCut(gpa: number, size: number, offset: number, available: number): void {
    if (available >= size) {
      this.add(gpa, size, offset);
      return;
    }
    const end = gpa + Math.max(0, available);
    const kept = Math.max(0, end - (end % PAGE) - gpa);
    this.add(gpa, kept, offset);
    this.add(gpa + kept, size - kept, CUT);
  }

  /** The same extents, the last one first. */
  reversed(): ExtentList {
    const list = new ExtentList();
    for (let i = this.length - 1; i >= 0; i--) list.add(this.gpa(i), this.end(i) - this.gpa(i), this.offset(i));
    return list;
  }
}
