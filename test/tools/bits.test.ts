/** What the lint of bare bits counts, in both languages, and that its list may only shrink. */
import { describe, expect, it } from "vitest";
import { bareBitsIn } from "../../scripts/bits/bare.js";
import { bitProblems } from "../../scripts/bits/counts.js";
import { parse } from "../../scripts/syntax/parse.js";

function countIn(path: string, text: string): number {
  return bareBitsIn(text, parse(path, text)).length;
}

const expression = (body: string) => `export const f = (x: number, y: number) => ${body};`;
const big = (body: string) => `export const f = (x: bigint, y: bigint) => ${body};`;
const core = (body: string) =>
  `// @ts-ignore: decorator\n@inline export function f(x: u64, y: u64): u64 { return ${body}; }`;

describe("a bare bit", () => {
  it.each(
    [
      ["x & 2", "x & 1", "x | 0x20", "x & ~0x800", "x ^ (1)", "(x >> 5) & 3", "1 << 11", "0xf << 19", "x & (1 << 26)"],
      ["x & 0x80000000", "x & 0xc0", "x & 0x7c"],
    ].flat(),
  )("is in %s", (body) => {
    expect(countIn("src/a.ts", expression(body))).toBe(1);
    expect(countIn("assembly/a.ts", core(body))).toBe(1);
  });

  it.each(["x & 0x000f_ffff_ffff_f000n", "x & 1n << 63n", "x | 1n << 7n", "x & 0x20n"])("is in %s", (body) => {
    expect(countIn("src/a.ts", big(body))).toBe(1);
  });

  it.each(["0x20n", "0x000f_ffff_ffff_f000n", "1n << 63n", "0x8000_0000"])("is in a constant that is %s", (value) => {
    expect(countIn("src/a.ts", `const A = ${value};`)).toBe(1);
  });

  it("is what an assignment sets", () => {
    expect(countIn("src/a.ts", "let a = 0; a |= 4; a &= ~0x10;")).toBe(2);
    expect(countIn("assembly/a.ts", "function f(a: u64): u64 { a |= <u64>1 << 63; return a; }")).toBe(1);
  });
});

describe("arithmetic", () => {
  it.each(
    [
      ["x & 0xfff", "x & 0x1ff", "x & 0xffffffff", "x & ~0xfff", "x & 0xff8", "x & 0xfffff000", "x & 31", "x & ~7"],
      ["x | 0", "(x >> y) & 1", "(x >> y) & 7", "1 << y", "x << 3", "x + 0x20", "x & y", "x == 4", "(x >> 3) & 0x1ff"],
    ].flat(),
  )("is no bit: %s", (body) => {
    expect(countIn("src/a.ts", expression(body))).toBe(0);
    expect(countIn("assembly/a.ts", core(body))).toBe(0);
  });

  it.each(["0x1000", "1n << 52n", "0xfff", "64", "0x9e3779b1"])("is no bit: a constant that is %s", (value) => {
    expect(countIn("src/a.ts", `const A = ${value};`)).toBe(0);
  });
});

it("counts for each file, and lets the numbers only shrink", () => {
  const known = { "src/a.ts": 2, "src/b.ts": 1 };
  expect(bitProblems(known, known)).toEqual([]);
  expect(bitProblems({ ...known, "src/a.ts": 3 }, known)[0]).toContain("src/a.ts: 3 bare bits, 2 known");
  expect(bitProblems({ ...known, "src/c.ts": 1 }, known)[0]).toContain("src/c.ts: 1 bare bits, 0 known");
  expect(bitProblems({ "src/a.ts": 2 }, known)[0]).toContain("src/b.ts: 0 bare bits, 1 known: run check-bits --update");
});
