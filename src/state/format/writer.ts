/** Writing a state: little-endian values one behind the other, in a buffer that grows. */
import { show } from "../../checks.js";
import { UnsupportedError } from "../../errors.js";
import { MOST_DEPTH, TAG } from "./tags.js";

const FIRST_BYTES = 4096;
const END = 1n << 64n;

export class StateWriter {
  #view = new DataView(new ArrayBuffer(FIRST_BYTES));
  #length = 0;

  /** Place of `bytes` more. */
  #room(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#view.byteLength) {
      const larger = new Uint8Array(Math.max(this.#length, this.#view.byteLength * 2));
      larger.set(new Uint8Array(this.#view.buffer));
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  u8(value: number): void {
    const at = this.#room(1);
    this.#view.setUint8(at, value);
  }

  flag(value: boolean): void {
    this.u8(value ? 1 : 0);
  }

  u32(value: number): void {
    const at = this.#room(4);
    this.#view.setUint32(at, value, true);
  }

  f64(value: number): void {
    const at = this.#room(8);
    this.#view.setFloat64(at, value, true);
  }

  u64(value: bigint): void {
    const at = this.#room(8);
    this.#view.setBigUint64(at, value, true);
  }

  /** Bytes whose number the reader knows. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    new Uint8Array(this.#view.buffer).set(bytes, at);
  }

  /** Bytes with their number. */
  bytes(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.raw(bytes);
  }

  text(text: string): void {
    this.bytes(new TextEncoder().encode(text));
  }

  /** Elements with their number. */
  list<T>(elements: readonly T[], write: (element: T) => void): void {
    this.u32(elements.length);
    for (const element of elements) write(element);
  }

  /** Plain data: what a configuration is made of. Throws UnsupportedError for anything else. */
  value(value: unknown, depth = 0): void {
    if (depth > MOST_DEPTH) throw new UnsupportedError("the configuration is nested too deeply to be saved");
    if (value === undefined) this.u8(TAG.undefined);
    else if (value === null) this.u8(TAG.null);
    else if (typeof value === "boolean") this.u8(value ? TAG.true : TAG.false);
    else if (typeof value === "number") {
      this.u8(TAG.number);
      this.f64(value);
    } else if (typeof value === "bigint" && value >= 0n && value < END) {
      this.u8(TAG.bigint);
      this.u64(value);
    } else if (typeof value === "string") {
      this.u8(TAG.text);
      this.text(value);
    } else if (Array.isArray(value)) {
      this.u8(TAG.array);
      this.list(value, (element) => this.value(element, depth + 1));
    } else if (typeof value === "object") {
      this.u8(TAG.object);
      const members = Object.entries(value).filter(([, one]) => one !== undefined);
      this.list(members.sort(byName), ([name, one]) => {
        this.text(name);
        this.value(one, depth + 1);
      });
    } else throw new UnsupportedError(`${show(value)} in the configuration cannot be saved`);
  }

  /** What was written so far; good until more is. */
  written(): Uint8Array {
    return new Uint8Array(this.#view.buffer, 0, this.#length);
  }
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}
