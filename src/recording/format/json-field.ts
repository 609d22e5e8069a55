/** Checked reading of JSON: values that know their path in the document. */
import { describeJson } from "../../json-value.js";
import { RecordingError } from "./error.js";

/** A value inside a JSON document that knows where it is, so that a wrong one is reported by name. */
export class JsonField {
  readonly #parent: JsonField | undefined;
  readonly #key: string | number;

  constructor(
    readonly file: string,
    readonly value: unknown,
    parent?: JsonField,
    key: string | number = "",
  ) {
    this.#parent = parent;
    this.#key = key;
  }

  /** `steps[3].events[12].gfn`; made only for a message, because documents have millions of fields. */
  get path(): string {
    if (this.#parent === undefined) return "";
    const base = this.#parent.path;
    if (typeof this.#key === "number") return `${base}[${this.#key}]`;
    return base === "" ? this.#key : `${base}.${this.#key}`;
  }

  fail(expected: string): never {
    throw new RecordingError(this.file, this.path, `expected ${expected}, found ${describeJson(this.value)}`);
  }

  get present(): boolean {
    return this.value !== undefined;
  }

  /** A member of an object; its value is undefined where the object has none. */
  get(name: string): JsonField {
    const object = this.object();
    return new JsonField(this.file, object[name], this, name);
  }

  object(): Readonly<Record<string, unknown>> {
    if (typeof this.value !== "object" || this.value === null || Array.isArray(this.value)) this.fail("an object");
    return this.value as Readonly<Record<string, unknown>>;
  }

  array(): JsonField[] {
    if (!Array.isArray(this.value)) this.fail("an array");
    return this.value.map((item, index) => new JsonField(this.file, item, this, index));
  }

  text(): string {
    if (typeof this.value !== "string") this.fail("a string");
    return this.value;
  }

  /** An unsigned 64-bit value: a hexadecimal string, or a number that is an exact integer. */
  u64(): bigint {
    const value = this.value;
    if (typeof value === "number") {
      if (!Number.isSafeInteger(value) || value < 0) this.fail("an integer from 0 to 2^53-1 or a hexadecimal string");
      return BigInt(value);
    }
    if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/i.test(value)) this.fail("0x and up to 16 hex digits");
    return BigInt(value);
  }

  /** A 32-bit value, signed or not: a number or a hexadecimal string. */
  int(): number {
    const value = typeof this.value === "string" ? Number(this.u64()) : this.value;
    if (typeof value !== "number" || !Number.isInteger(value) || value < -(2 ** 31) || value >= 2 ** 32)
      this.fail("a 32-bit integer");
    return value;
  }

  /** A 32-bit value from `least` to `most`. */
  intFrom(least: number, most: number): number {
    const value = this.int();
    if (value < least || value > most) this.fail(`an integer from ${least} to ${most}`);
    return value;
  }

  /** A multiple of 4096 of at most `most`. */
  pages(most: bigint): bigint {
    const value = this.u64();
    if (value % 4096n !== 0n || value > most) this.fail(`a multiple of 0x1000 up to 0x${most.toString(16)}`);
    return value;
  }

  /** A number that counts as a boolean. */
  flag(): boolean {
    const value = this.int();
    if (value !== 0 && value !== 1) this.fail("0 or 1");
    return value === 1;
  }

  oneOf<T extends string>(...names: readonly T[]): T {
    const name = names.find((candidate) => candidate === this.value);
    if (name === undefined) this.fail(names.map((candidate) => JSON.stringify(candidate)).join(" or "));
    return name;
  }

  map<T>(read: (item: JsonField) => T): T[] {
    return this.array().map(read);
  }

  /** `read` of this field where it is present, else undefined. */
  maybe<T>(read: (field: JsonField) => T): T | undefined {
    return this.present ? read(this) : undefined;
  }
}
