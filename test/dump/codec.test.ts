/** Decompressors of pages, instruction by instruction; the streams of lzo were also given to liblzo2, which agrees. */
import { describe, expect, it } from "vitest";
import { CodecError } from "../../src/dump/codec/codec.js";
import { loadCodecs } from "../../src/dump/index.js";
import { concat } from "./builders.js";

const { lzo, snappy, zlib, zstd } = await loadCodecs(["lzo", "snappy", "zlib", "zstd"]);
const ascii = (text: string) => new TextEncoder().encode(text);
const END = Uint8Array.of(17, 0, 0);

function unpack(codec: typeof lzo, packed: Uint8Array, length: number): string {
  const into = new Uint8Array(length).fill(0x2e);
  codec!(packed, into);
  return new TextDecoder("latin1").decode(into);
}

/** "abcd", then 2,100 times "d", as a copy of 2,100 from distance 1. */
const LONG = concat(Uint8Array.of(21), ascii("abcd"), Uint8Array.of(32), new Uint8Array(8), Uint8Array.of(27, 0, 0));
const LONG_TEXT = `abcd${"d".repeat(33 + 8 * 255 + 27)}`;

const LZO: [string, Uint8Array, string][] = [
  [
    "a first run of three, then two bytes from near (0000DDSS)",
    concat(Uint8Array.of(20), ascii("abc"), Uint8Array.of(8, 0)),
    "abcab",
  ],
  [
    "the same with literals behind it",
    concat(Uint8Array.of(20), ascii("abc"), Uint8Array.of(10, 0), ascii("xy")),
    "abcabxy",
  ],
  [
    "three bytes from 2 KiB before, behind four literals",
    concat(LONG, Uint8Array.of(1), ascii("wxyz"), Uint8Array.of(4, 13)),
    // distance 13 * 4 + 1 + 2049
    `${LONG_TEXT}wxyz${`${LONG_TEXT}wxyz`.slice(-2102, -2099)}`,
  ],
  [
    "literals of a long run",
    concat(LONG, Uint8Array.of(0, 2), ascii("0123456789abcdefghij")),
    `${LONG_TEXT}0123456789abcdefghij`,
  ],
  [
    "three and four bytes (01LDDDSS)",
    concat(Uint8Array.of(25), ascii("abcdefgh"), Uint8Array.of(0x4c, 0, 0x6c, 0)),
    "abcdefghefghefg",
  ],
  [
    "five to eight bytes (1LLDDDSS)",
    concat(Uint8Array.of(25), ascii("abcdefgh"), Uint8Array.of(0x9c, 0, 0xfd, 0), ascii("z")),
    "abcdefghabcdefghabcdez",
  ],
];

describe("lzo", () => {
  it.each(LZO)("%s", (_, stream, text) => {
    expect(unpack(lzo, concat(stream, END), text.length)).toBe(text);
  });

  it("copies from up to 16 KiB before, with literals behind it", () => {
    // Length 3, distance (0x20 * 64 + 0xfe >> 2) + 1 = 2112, two literals.
    const stream = concat(LONG, Uint8Array.of(0x01), ascii("wxyz"), Uint8Array.of(0x21, 0xe2, 0x20), ascii("no"));
    const before = `${LONG_TEXT}wxyz`;
    const from = before.length - (0x20 * 64 + (0xe2 >> 2) + 1);
    expect(unpack(lzo, concat(stream, END), before.length + 5)).toBe(`${before}${before.slice(from, from + 3)}no`);
  });

  it("copies from beyond 16 KiB", () => {
    // "a" once, "b" 40,000 times; distance 16384 + 16384 + 7300, length 2 + 1.
    const count = 40_000 - 1 - 33;
    const zeros = new Uint8Array(Math.floor((count - 1) / 255));
    const run = concat(
      Uint8Array.of(22),
      ascii("aabcb"),
      Uint8Array.of(32),
      zeros,
      Uint8Array.of(count - zeros.length * 255, 0, 0),
    );
    const text = `aabc${"b".repeat(40_000)}`;
    const distance = text.length;
    const rest = distance - 2 * 16384;
    const far = Uint8Array.of(0x19, (rest % 64) * 4, Math.floor(rest / 64));
    expect(unpack(lzo, concat(run, far, END), text.length + 3)).toBe(`${text}aab`);
    const near = text.length - 16384 - 100;
    const half = Uint8Array.of(0x12, (100 % 64) * 4, 1);
    expect(unpack(lzo, concat(run, half, END), text.length + 4)).toBe(`${text}${text.slice(near, near + 4)}`);
  });

  it.each<[string, Uint8Array, number, RegExp]>([
    ["no data", new Uint8Array(0), 4, /breaks off/],
    ["no end mark", concat(Uint8Array.of(20), ascii("abc")), 3, /breaks off/],
    ["another end mark", concat(Uint8Array.of(20), ascii("abc"), Uint8Array.of(18, 0, 0)), 3, /end mark/],
    ["bytes behind the end", concat(Uint8Array.of(20), ascii("abc"), END, END), 3, /behind the end/],
    ["fewer bytes than asked for", concat(Uint8Array.of(20), ascii("abc"), END), 4, /ends after 3 bytes/],
    [
      "more literals than there is room for",
      concat(Uint8Array.of(20), ascii("abc"), END),
      2,
      /literal that is too long/,
    ],
    [
      "a copy from before the start",
      concat(Uint8Array.of(20), ascii("abc"), Uint8Array.of(12, 0), END),
      5,
      /copy from outside/,
    ],
    ["a copy beyond the end", concat(LONG, END), 100, /too long|outside/],
    [
      "a length without an end",
      concat(Uint8Array.of(20), ascii("abc"), new Uint8Array(99).fill(0, 1).fill(32, 0, 1)),
      50,
      /too long|breaks off/,
    ],
  ])("refuses %s", (_, stream, length, message) => {
    expect(() => unpack(lzo, stream, length)).toThrow(CodecError);
    expect(() => unpack(lzo, stream, length)).toThrow(message);
  });
});

describe("snappy", () => {
  it.each<[string, number[], string]>([
    [
      "a literal and copies of one, two and four bytes of offset",
      [11, 8, 97, 98, 99, 0x01 + 0, 3, 0x06, 2, 0, 0x07, 3, 0, 0, 0],
      "abcabcacaac",
    ],
    ["a literal whose length has a byte of its own", [61, 0xf0, 60, ...new Array(61).fill(65)], "A".repeat(61)],
  ])("%s", (_, stream, text) => {
    expect(unpack(snappy, Uint8Array.from(stream), text.length)).toBe(text);
  });

  it.each<[string, number[], RegExp]>([
    ["no length", [0x80, 0x80, 0x80, 0x80, 0x80], /without a length/],
    ["another length", [5, 16, 97, 98, 99, 100, 101], /snappy data of 5 bytes/],
    ["a copy from before the start", [4, 0, 97, 0x0a, 2, 0], /copy from outside/],
    ["a copy of nothing before", [4, 0, 97, 0x0a, 0, 0], /copy from outside/],
    ["a copy beyond the end", [4, 0, 97, 0x0e, 1, 0], /copy from outside/],
    ["a literal beyond the end", [4, 16, 97, 98, 99, 100, 101], /literal that is too long/],
    ["a literal that breaks off", [4, 12, 97], /literal that is too long/],
    ["a copy that breaks off", [4, 0, 97, 0x0a, 1], /breaks off/],
    ["too little", [4, 8, 97, 98, 99], /ends after 3 bytes/],
  ])("refuses %s", (_, stream, message) => {
    expect(() => unpack(snappy, Uint8Array.from(stream), 4)).toThrow(CodecError);
    expect(() => unpack(snappy, Uint8Array.from(stream), 4)).toThrow(message);
  });
});

describe("zlib and zstd", () => {
  it.each([
    ["zlib", zlib],
    ["zstd", zstd],
  ])("%s refuses no data, noise and other lengths", (_, codec) => {
    for (const bytes of [
      new Uint8Array(0),
      Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 1, 2),
      new Uint8Array(64).fill(0x78),
    ]) {
      expect(() => unpack(codec, bytes, 16)).toThrow(CodecError);
    }
  });
});
