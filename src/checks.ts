/** Checks of what callers pass, shared by everything that takes a configuration. Each throws before anything changes. */
import { ConfigError } from "./errors.js";

/** Every option of a configuration, by name: a type that gains one does not compile until its table has it. */
export type OptionNames<T> = { readonly [Name in keyof Required<T>]: true };

/** Throws ConfigError where `config` is no object, or has an option that `names` does not know. */
export function checkOptions<T extends object>(config: T, names: OptionNames<T>, what: string): void {
  if (typeof config !== "object" || config === null) {
    throw new ConfigError(`${what} is ${show(config)}, expected an object`);
  }
  for (const name of namesIn(config, what)) {
    if (Object.hasOwn(names, name)) continue;
    throw new ConfigError(`${what} has an unknown option "${name}", expected ${Object.keys(names).join(", ")}`);
  }
}

/** Names of the options that `config` has. Throws ConfigError for a proxy that does not say. */
function namesIn(config: object, what: string): string[] {
  try {
    return Object.keys(config);
  } catch {
    throw new ConfigError(`${what} is ${show(config)}, expected an object whose properties can be listed`);
  }
}

/** Like `instanceof`, and false for a proxy that does not say. */
export function isInstance<T>(value: unknown, type: abstract new (...parameters: never[]) => T): value is T {
  try {
    return value instanceof type;
  } catch {
    return false;
  }
}

/** Like `Array.isArray`, and false for a proxy that does not say. */
export function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** By `Object.prototype.toString`, for what may come from another realm: "[object ArrayBuffer]" say. */
export function tagOf(value: unknown): string {
  try {
    return Object.prototype.toString.call(value);
  } catch {
    return "";
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

/** `value` as it is; throws ConfigError where it cannot be iterated over. */
export function checkIterable<T>(value: Iterable<T>, what: string): Iterable<T> {
  if (value !== undefined && value !== null && hasMethod(value, Symbol.iterator)) return value;
  throw new ConfigError(`${what} is ${show(value)}, expected something to iterate over`);
}

/** `value` as it is; throws ConfigError where it is not an object with the function `method`. */
export function checkMethod<T extends object>(value: T, method: keyof T & string, what: string): T {
  if (typeof value === "object" && value !== null && hasMethod(value, method)) return value;
  throw new ConfigError(`${what} is ${show(value)}, expected an object with a function "${method}"`);
}

function hasMethod<T>(value: T, method: keyof T): boolean {
  try {
    return typeof value[method] === "function";
  } catch {
    return false;
  }
}

/** Throws TypeError where `array` is no typed array of a kind. */
export function checkArray(array: ArrayBufferView, kind: "BigUint64Array" | "Uint32Array", what: string): void {
  if (kind === "Uint32Array" ? isInstance(array, Uint32Array) : isInstance(array, BigUint64Array)) return;
  // Or by its tag, which takes microseconds: an array may come from another realm.
  if (ArrayBuffer.isView(array) && tagOf(array) === `[object ${kind}]`) return;
  throw new TypeError(`${what} is ${show(array)}, expected a ${kind}`);
}

/** Raw memory of a buffer or of any view of one, as bytes; nothing is copied. Throws TypeError for anything else. */
export function toBytes(value: Uint8Array | ArrayBufferView | ArrayBufferLike, what = "bytes"): Uint8Array {
  if (isInstance(value, Uint8Array)) return value;
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const kind = tagOf(value);
  if (kind === "[object ArrayBuffer]" || kind === "[object SharedArrayBuffer]") return new Uint8Array(value);
  throw new TypeError(`${what} is ${show(value)}, expected an ArrayBuffer or a view of one`);
}

/** What a message calls a value that may be anything. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (isArray(value)) return `an array of ${value.length}`;
  if (typeof value !== "object" || value === null) return String(value);
  const name = classOf(value);
  return typeof name === "string" && name !== "Object" && name !== "" ? `a ${name}` : "an object";
}

/** Name of an object's class, whatever it says that it is; undefined where asking it throws. */
function classOf(value: object): unknown {
  try {
    return Object.getPrototypeOf(value)?.constructor?.name;
  } catch {
    return undefined;
  }
}
