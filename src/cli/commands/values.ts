/** Words and small values on the command lines of `role` and `spte`. */
import { InvalidArgumentError } from "commander";

/** A word in hexadecimal, with or without 0x; underscores may separate digits. */
export function parseWord(text: string): bigint {
  const digits = /^(?:0x)?([0-9a-f][0-9a-f_]*)$/i.exec(text)?.[1]?.replaceAll("_", "");
  if (digits === undefined) throw new InvalidArgumentError("expected a hexadecimal number.");
  const value = BigInt(`0x${digits}`);
  if (value >= 1n << 64n) throw new InvalidArgumentError("expected at most 64 bits.");
  return value;
}

/** For commander: several words. */
export function parseWords(text: string, previous: readonly bigint[] | undefined): bigint[] {
  return [...(previous ?? []), parseWord(text)];
}

/** For commander: a decimal number from `least` to `most`. */
export function parseNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most))
      throw new InvalidArgumentError(`expected a number from ${least} to ${most}.`);
    return value;
  };
}

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
