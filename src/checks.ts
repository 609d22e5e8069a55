/** Checks of what callers pass, shared by everything that takes a configuration. Each throws before anything changes. */
import { ConfigError } from "./errors.js";

/** Every option of a configuration, by name: a type that gains one does not compile until its table has it. */
export type OptionNames<T> = { readonly [Name in keyof Required<T>]: true };

/** Throws ConfigError where `config` is no object, or has an option that `names` does not know. */
export function checkOptions<T extends object>(config: T, names: OptionNames<T>, what: string): void {
  if (typeof config !== "object" || config === null) {
    throw new ConfigError(`${what} is ${show(config)}, expected an object`);
  }
  for (const name of Object.keys(config)) {
    if (Object.hasOwn(names, name)) continue;
    throw new ConfigError(`${what} has an unknown option "${name}", expected ${Object.keys(names).join(", ")}`);
  }
}

/** `value` as it is; throws a `Failure` where it is not an integer from `least` to `most`. */
export function checkInteger(
  value: number,
  least: number,
  most: number,
  what: string,
  Failure: new (message: string) => Error = ConfigError,
): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Failure(`${what} is ${show(value)}, expected an integer from ${least} to ${most}`);
}

/** `value` as it is; throws ConfigError where it is given and no boolean. */
export function checkFlag(value: boolean | undefined, what: string): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw new ConfigError(`${what} is ${show(value)}, expected true or false`);
}

/** `value` as it is; throws ConfigError where it is none of `choices`. */
export function checkChoice<T extends string>(value: T, choices: readonly T[], what: string): T {
  if (choices.includes(value)) return value;
  throw new ConfigError(`${what} is ${show(value)}, expected ${choices.map((one) => `"${one}"`).join(" or ")}`);
}

/** `value` as it is; throws ConfigError where it is not an object with the function `method`. */
export function checkMethod<T extends object>(value: T, method: keyof T & string, what: string): T {
  if (typeof value === "object" && value !== null && typeof value[method] === "function") return value;
  throw new ConfigError(`${what} is ${show(value)}, expected an object with a function "${method}"`);
}

/** Throws TypeError where `array` is no typed array of a kind. */
export function checkArray(array: ArrayBufferView, kind: "BigUint64Array" | "Uint32Array", what: string): void {
  if (kind === "Uint32Array" ? array instanceof Uint32Array : array instanceof BigUint64Array) return;
  // Or by its tag, which takes microseconds: an array may come from another realm.
  if (Object.prototype.toString.call(array) === `[object ${kind}]`) return;
  throw new TypeError(`${what} is ${show(array)}, expected a ${kind}`);
}

/** Raw memory of a buffer or of any view of one, as bytes; nothing is copied. Throws TypeError for anything else. */
export function toBytes(value: Uint8Array | ArrayBufferView | ArrayBufferLike, what = "bytes"): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const kind = Object.prototype.toString.call(value);
  if (kind === "[object ArrayBuffer]" || kind === "[object SharedArrayBuffer]") return new Uint8Array(value);
  throw new TypeError(`${what} is ${show(value)}, expected an ArrayBuffer or a view of one`);
}

/** What a message calls a value that may be anything. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value !== "object" || value === null) return String(value);
  const name = Object.getPrototypeOf(value)?.constructor?.name;
  return typeof name === "string" && name !== "Object" && name !== "" ? `a ${name}` : "an object";
}
