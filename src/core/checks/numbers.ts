/** Checking and splitting the integers that callers pass. */
import type { U64 } from "../../api.js";
import { show } from "../../checks.js";

const LIMIT = 1n << 64n;

type ErrorClass = new (message: string) => Error;

/** `value` as an unsigned 64-bit bigint; throws a `Failure` naming `what` where it is not one. */
export function toU64(value: U64, what: string, Failure: ErrorClass = RangeError): bigint {
  if (typeof value === "bigint") {
    if (value >= 0n && value < LIMIT) return value;
  } else if (Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw new Failure(`${what} is ${show(value)}, expected an integer from 0 to 2^64-1 (a number only up to 2^53-1)`);
}

/** `value` as an unsigned 32-bit number; throws a `Failure` naming `what` where it is not one. */
export function toU32(value: number, what: string, Failure: ErrorClass = RangeError): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffffffff) return value;
  throw new Failure(`${what} is ${show(value)}, expected an integer from 0 to 2^32-1`);
}
