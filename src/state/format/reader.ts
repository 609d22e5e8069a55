/** Reading a state, of which nothing is believed: every read is checked against what is left. */
import { StateError } from "../../errors.js";
import { MOST_DEPTH, TAG } from "./tags.js";

export class StateReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at: number;

  /** From byte `start` of the state on. */
  constructor(bytes: Uint8Array, start = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = start;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  #take(bytes: number): number {
    if (bytes > this.left) throw new StateError(`the state ends at byte ${this.#bytes.length}, ${bytes} more expected`);
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  /** A number from `least` to `most`; `what` names it in the error. */
  integer(least: number, most: number, what: string): number {
    const value = this.u32();
    if (value >= least && value <= most) return value;
    throw new StateError(`the state has ${what} ${value}, expected ${least} to ${most}`);
  }

  flag(what = "a flag"): boolean {
    const value = this.u8();
    if (value > 1) throw new StateError(`the state has ${value} as ${what}, expected 0 or 1`);
    return value === 1;
  }

  /** `bytes` of them, as a view of the state. */
  raw(bytes: number): Uint8Array {
    const at = this.#take(bytes);
    return this.#bytes.subarray(at, at + bytes);
  }

  bytes(): Uint8Array {
    return this.raw(this.u32());
  }

  text(): string {
    return new TextDecoder().decode(this.bytes());
  }

  /** The number of elements that follow, each of at least `size` bytes. */
  count(size: number, most = Number.POSITIVE_INFINITY, what = "elements"): number {
    const count = this.u32();
    if (count * size > this.left)
      throw new StateError(`the state has ${count} ${what} and ${this.left} bytes for them`);
    if (count > most) throw new StateError(`the state has ${count} ${what}, expected at most ${most}`);
    return count;
  }

  /** Elements of at least `size` bytes each. */
  list<T>(size: number, read: (index: number) => T, most?: number, what?: string): T[] {
    const count = this.count(size, most, what);
    const elements: T[] = [];
    for (let index = 0; index < count; index++) elements.push(read(index));
    return elements;
  }

  /** Plain data. Throws StateError for what `StateWriter.value` does not write. */
  value(depth = 0): unknown {
    if (depth > MOST_DEPTH) throw new StateError("the state has data that is nested too deeply");
    const tag = this.u8();
    if (tag === TAG.undefined) return undefined;
    if (tag === TAG.null) return null;
    if (tag === TAG.false || tag === TAG.true) return tag === TAG.true;
    if (tag === TAG.number) return this.f64();
    if (tag === TAG.bigint) return this.u64();
    if (tag === TAG.text) return this.text();
    if (tag === TAG.array) return this.list(1, () => this.value(depth + 1));
    if (tag !== TAG.object) throw new StateError(`the state has data of an unknown type ${tag}`);
    return Object.fromEntries(this.list(5, () => [this.text(), this.value(depth + 1)]));
  }

  /** Throws StateError where something is left over. */
  end(): void {
    if (this.left !== 0) throw new StateError(`the state has ${this.left} bytes more than expected`);
  }
}
