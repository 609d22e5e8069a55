/** Checked conversions of what callers pass in. */
import type { U64 } from "../api.js";
import { checkInteger, show } from "../checks.js";
import { ConfigError } from "../errors.js";

const MAX_U64 = (1n << 64n) - 1n;

/** An unsigned 64-bit value as bigint; throws a RangeError that names it where it is not one. */
export function toU64(value: U64, name: string): bigint {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(`${name} is ${value}: expected an integer from 0 to 2^53-1, or a bigint`);
  }
  if (typeof value !== "bigint" && typeof value !== "number") {
    throw new RangeError(`${name} is ${show(value)}: expected an integer from 0 to 2^64-1`);
  }
  const big = BigInt(value);
  if (big < 0n || big > MAX_U64) throw new RangeError(`${name} is ${big}: expected 0 to 2^64-1`);
  return big;
}

/** The same for a field of a configuration, with a ConfigError. */
export function configU64(value: U64, name: string): bigint {
  if (typeof value !== "bigint" && typeof value !== "number") {
    throw new ConfigError(`${name} is a ${typeof value}: expected a bigint or a number`);
  }
  try {
    return toU64(value, name);
  } catch (error) {
    throw new ConfigError((error as Error).message);
  }
}

/** An unsigned 32-bit value; throws a RangeError that names it where it is not one. */
export function toU32(value: number, name: string): number {
  return checkInteger(value, 0, 0xffffffff, name, RangeError);
}

/** An unsigned 32-bit value of a configuration. */
export function configU32(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new ConfigError(`${name} is ${show(value)}: expected an integer from 0 to 2^32-1`);
  }
  return value;
}

/** A value of a configuration that must be one of a few strings. */
export function configChoice<T extends string>(value: T, choices: readonly T[], name: string): T {
  if (!choices.includes(value)) throw new ConfigError(`${name} is ${show(value)}: expected ${choices.join(" or ")}`);
  return value;
}

/** MAXPHYADDR of a configuration: 32 to 52. */
export function configMaxPhysAddr(value = 52): number {
  if (!Number.isInteger(value) || value < 32 || value > 52) {
    throw new ConfigError(`maxPhysAddr is ${show(value)}: expected an integer from 32 to 52`);
  }
  return value;
}

/** Bits `low` to `high`, both included; 0n where `high < low`. */
export function bits(low: number, high: number): bigint {
  return high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

/** For messages. */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
