/** Values on the command line: what is a number of which kind, and how sizes are written. */
import { InvalidArgumentError } from "commander";
import { expect, it } from "vitest";
import { parseHex, parseInteger, parseSize, sizeText } from "../../src/cli/values.js";
import { decodeEntry } from "../../src/decode/entry.js";
import { pageSizeName } from "../../src/maps/leaves.js";

it("hexadecimal numbers have at most 64 bits, with 0x and underscores or not", () => {
  expect(["0", "0x1f", "FFFF_0000", "0xffffffffffffffff"].map(parseHex)).toEqual([
    0n,
    0x1fn,
    0xffff0000n,
    (1n << 64n) - 1n,
  ]);
  for (const text of ["", "0x", "_1", "1g", "-1", "0x10000000000000000", "1 "]) {
    expect(() => parseHex(text), text).toThrow(InvalidArgumentError);
  }
});

it("decimal numbers lie from the least to the most, both included", () => {
  const parse = parseInteger(32, 52);
  expect(["32", "52", "040"].map(parse)).toEqual([32, 52, 40]);
  for (const text of ["31", "53", "", "4e1", "0x28", "-40", "40.0"]) {
    expect(() => parse(text), text).toThrow(InvalidArgumentError);
  }
});

it("sizes are bytes, or powers of 1024 of them", () => {
  expect(["1", "2K", "3m", "4GiB", "1TB"].map(parseSize)).toEqual([1, 2048, 3 << 20, 2 ** 32, 2 ** 40]);
  for (const text of ["0", "", "K", "1.5G", "-1", "9007199254740992", "99999T", "1KK"]) {
    expect(() => parseSize(text), text).toThrow(InvalidArgumentError);
  }
});

it("sizes are written in the largest unit that leaves few digits", () => {
  const sizes = [0n, 1023n, 1024n, 1536n, 1n << 20n, (1n << 20n) + (1n << 19n), 1n << 30n, 1n << 60n, 1n << 63n];
  expect(sizes.map(sizeText)).toEqual([
    ...["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1.5 MiB", "1 GiB", "1 EiB", "8 EiB"],
  ]);
  expect([4096, 2 ** 21, 2 ** 22, 2 ** 30, 2 ** 31].map(pageSizeName)).toEqual(["4K", "2M", "4M", "1G", "2G"]);
});

it("bit 7 of a level-1 entry is PAT, but not in EPT", () => {
  const names = (mode: "4level" | "pae" | "32bit" | "ept4") =>
    decodeEntry(mode, 1, 0x5087n).fields.map(({ name }) => name);
  for (const mode of ["4level", "pae", "32bit"] as const) expect(names(mode)).toContain("PAT");
  expect(names("ept4")).not.toContain("PAT");
});
