/** Typed reading of a JSON object's fields; every mismatch is a VectorError that names line and field. */
import { describeJson } from "../json-value.js";
import { VectorError } from "./vector-error.js";

const HEX = /^0x[0-9a-fA-F]{1,16}$/;

export class Fields {
  constructor(
    readonly line: number,
    readonly path: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {}

  /** Reads the JSON object that a line holds. */
  static parse(text: string, line: number): Fields {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw new VectorError(line, "", "is not JSON");
    }
    return Fields.#of(value, line, "");
  }

  static #of(value: unknown, line: number, path: string): Fields {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new VectorError(line, path, `is ${describeJson(value)}: expected an object`);
    }
    return new Fields(line, path, value as Record<string, unknown>);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.values, name);
  }

  fail(name: string, expected: string): never {
    throw new VectorError(this.line, this.#name(name), `is ${describeJson(this.#value(name))}: expected ${expected}`);
  }

  object(name: string): Fields {
    return Fields.#of(this.#value(name), this.line, this.#name(name));
  }

  /** At most `most` objects. */
  objects(name: string, most: number): Fields[] {
    const list = this.#list(name);
    if (list.length > most) this.fail(name, `at most ${most} objects`);
    return list.map((value, index) => Fields.#of(value, this.line, `${this.#name(name)}[${index}]`));
  }

  string(name: string): string {
    const value = this.#value(name);
    return typeof value === "string" && value !== "" ? value : this.fail(name, "a string");
  }

  choice<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.#value(name) as T;
    return choices.includes(value) ? value : this.fail(name, choices.join(", "));
  }

  boolean(name: string): boolean {
    const value = this.#value(name);
    return typeof value === "boolean" ? value : this.fail(name, "true or false");
  }

  /** An integer from `low` to `high`. */
  integer(name: string, low: number, high: number): number {
    const value = this.#value(name);
    if (typeof value === "number" && Number.isInteger(value) && value >= low && value <= high) return value;
    return this.fail(name, `an integer from ${low} to ${high}`);
  }

  /** A hexadecimal string of up to `width` bits. */
  hex(name: string, width = 64): bigint {
    return parseHex(this.#value(name), width) ?? this.fail(name, `a hexadecimal string of at most ${width} bits`);
  }

  hexList(name: string, length: number): bigint[] {
    const values = this.#list(name);
    if (values.length !== length) this.fail(name, `${length} hexadecimal strings`);
    return values.map(
      (value) => parseHex(value, 64) ?? this.fail(name, `${length} hexadecimal strings of at most 64 bits`),
    );
  }

  #list(name: string): unknown[] {
    const value = this.#value(name);
    return Array.isArray(value) ? value : this.fail(name, "an array");
  }

  #value(name: string): unknown {
    return this.has(name) ? this.values[name] : undefined;
  }

  #name(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }
}

function parseHex(value: unknown, width: number): bigint | undefined {
  if (typeof value !== "string" || !HEX.test(value)) return undefined;
  const parsed = BigInt(value);
  return parsed >> BigInt(width) === 0n ? parsed : undefined;
}
