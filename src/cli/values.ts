/** Values on the command line. */
import { InvalidArgumentError } from "commander";

/** A 64-bit address, register or entry in hexadecimal, with or without 0x; underscores may separate digits. */
export function parseHex(text: string): bigint {
  const digits = /^(?:0x)?([0-9a-f][0-9a-f_]*)$/i.exec(text)?.[1]?.replaceAll("_", "");
  if (digits === undefined) throw new InvalidArgumentError("expected a hexadecimal number.");
  const value = BigInt(`0x${digits}`);
  if (value >= 1n << 64n) throw new InvalidArgumentError("expected at most 64 bits.");
  return value;
}

/** For commander: several hexadecimal numbers. */
export function parseHexList(text: string, previous: bigint[] | undefined): bigint[] {
  const list = previous ?? [];
  list.push(parseHex(text));
  return list;
}

/** A decimal number from `least` to `most`. */
export function parseInteger(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most)) {
      throw new InvalidArgumentError(`expected a number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** A size in bytes: a decimal number, with K, M, G or T for powers of 1024 behind it. */
export function parseSize(text: string): number {
  const [, digits, unit] = /^(\d{1,16})([KMGT]?)(?:i?B)?$/i.exec(text) ?? [];
  const value =
    digits === undefined ? Number.NaN : Number(digits) * 1024 ** " KMGT".indexOf(unit?.toUpperCase() || " ");
  if (!(value >= 1 && value <= Number.MAX_SAFE_INTEGER)) {
    throw new InvalidArgumentError("expected a number of bytes, perhaps with K, M, G or T behind it.");
  }
  return value;
}

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

export function hex16(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

/** A size in bytes in the largest binary unit that leaves few digits. */
export function sizeText(bytes: bigint): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}
