/** Searching memory for bytes. */
import { describe, expect, it } from "vitest";
import {
  type BytePattern,
  expressionPattern,
  hexPattern,
  MemorySearch,
  PatternError,
  type SearchedMemory,
  type Stretch,
  textPattern,
} from "../../src/dump/index.js";

const PAGE = 4096;
const ascii = (text: string) => new TextEncoder().encode(text);

/** Pages by frame number. */
function memoryOf(pages: Record<number, Uint8Array>, lacking: Record<number, "excluded" | "cut"> = {}): SearchedMemory {
  return {
    pageSource: {
      readPage(gfn, into) {
        const page = pages[Number(gfn)];
        if (page !== undefined) into.set(page);
        return page !== undefined;
      },
    },
    presence(gpa, size) {
      const frames = Array.from({ length: Number((size + 4095n) / 4096n) }, (_, i) => Number(gpa / 4096n) + i);
      if (frames.some((frame) => frame in pages)) return "held";
      return frames.map((frame) => lacking[frame]).find((why) => why !== undefined) ?? "absent";
    },
  };
}

/** Consecutive pages of `bytes`, in frames from 0 on. */
function pagesOf(bytes: Uint8Array): Record<number, Uint8Array> {
  const count = Math.ceil(bytes.length / PAGE);
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [i, bytes.subarray(i * PAGE, (i + 1) * PAGE)]));
}

function searchAll(memory: SearchedMemory, pattern: BytePattern, stretches: Iterable<Stretch>, step = 3) {
  const search = new MemorySearch(memory, pattern, stretches);
  const hits = [];
  for (let finished = false; !finished; ) {
    const found = search.step(step);
    hits.push(...found.hits);
    finished = found.finished;
  }
  return { hits, search };
}

const whole = (size: number): Stretch[] => [{ address: 0n, gpa: 0n, size: BigInt(size) }];
const found = (bytes: Uint8Array, pattern: BytePattern) => {
  const padded = new Uint8Array(Math.ceil(bytes.length / PAGE) * PAGE).fill(0xee);
  padded.set(bytes);
  return searchAll(memoryOf(pagesOf(padded)), pattern, whole(padded.length)).hits.map(({ address, length }) => [
    Number(address),
    length,
  ]);
};

describe("patterns", () => {
  it.each<[string, BytePattern, Uint8Array, number[][]]>([
    [
      "text",
      textPattern("ab"),
      ascii("..ab.ab"),
      [
        [2, 2],
        [5, 2],
      ],
    ],
    [
      "text without overlaps",
      textPattern("aa"),
      ascii("aaaaa"),
      [
        [0, 2],
        [2, 2],
      ],
    ],
    ["UTF-8", textPattern("é"), Uint8Array.of(0, 0xc3, 0xa9), [[1, 2]]],
    ["UTF-16", textPattern("aé", { encoding: "utf-16le" }), Uint8Array.of(0x61, 0x61, 0, 0xe9, 0), [[1, 4]]],
    [
      "case",
      textPattern("Ab[", { ignoreCase: true }),
      ascii("aB[ AB[ ab{ ab;"),
      [
        [0, 3],
        [4, 3],
      ],
    ],
    [
      "case in UTF-16, of ASCII alone",
      textPattern("a\u6161", { encoding: "utf-16le", ignoreCase: true }),
      Uint8Array.of(0x41, 0, 0x61, 0x61, 0x41, 0, 0x41, 0x41),
      [[0, 4]],
    ],
    ["hexadecimal digits", hexPattern("48 8B ?? c3"), Uint8Array.of(0x48, 0x8b, 1, 0xc3, 0x48, 0x8b, 0xc3), [[0, 4]]],
    ["halves of bytes", hexPattern("4??8"), Uint8Array.of(0x4f, 0xf8, 0x5f, 0xf8), [[0, 2]]],
    ["wildcards at the ends", hexPattern("??01??"), Uint8Array.of(9, 1, 9), [[0, 3]]],
    ["an expression", expressionPattern("a.+?z"), Uint8Array.of(0x61, 0x0a, 0xff, 0x7a), [[0, 4]]],
    [
      "an expression over bytes from 0x80 on",
      expressionPattern("[\\x80-\\x9f]+"),
      Uint8Array.of(0x7f, 0x80, 0x9f, 0xa0),
      [[1, 2]],
    ],
    ["lines", expressionPattern("^b$"), ascii("a\nb\nbb\n"), [[2, 1]]],
    ["an expression in both cases", expressionPattern("AB", { ignoreCase: true }), ascii("ab"), [[0, 2]]],
    ["an expression that may match nothing", expressionPattern("x*"), ascii("axxb"), [[1, 2]]],
  ])("%s", (_, pattern, bytes, expected) => {
    expect(found(bytes, pattern)).toEqual(expected);
  });

  it.each<[string, () => BytePattern, RegExp]>([
    ["no text", () => textPattern(""), /expected a pattern, found none/],
    ["no digits", () => hexPattern(" "), /expected a pattern, found none/],
    ["no expression", () => expressionPattern(""), /expected a pattern, found none/],
    ["odd digits", () => hexPattern("48 8 b1"), /two hexadecimal digits for each byte/],
    ["other characters", () => hexPattern("4x"), /digits and \?, found "x"/],
    ["wildcards alone", () => hexPattern("????"), /a byte that is no wildcard/],
    ["too much text", () => textPattern("a".repeat(4097)), /at most 4096 bytes, found 4097/],
    ["a broken expression", () => expressionPattern("("), /expected a regular expression: /],
  ])("refuses %s", (_, make, message) => {
    expect(make).toThrow(PatternError);
    expect(make).toThrow(message);
  });
});

describe("a search", () => {
  it("finds what a plain search of all bytes finds, wherever windows end", () => {
    const size = 60 * PAGE;
    const bytes = new Uint8Array(size);
    let state = 7;
    for (let at = 0; at < size; at += 1 + ((state >> 16) % 97)) {
      bytes.set(ascii("needle").subarray(0, Math.min(6, size - at)), at);
      state = (state * 1103515245 + 12345) & 0x7fffffff;
    }
    const text = Buffer.from(bytes).toString("latin1");
    const expected = [...text.matchAll(/needle/g)].map(({ index }) => [index, 6]);
    expect(expected.length).toBeGreaterThan(1000);
    expect(found(bytes, textPattern("needle"))).toEqual(expected);
    expect(found(bytes, expressionPattern("need[l]e"))).toEqual(expected);
    const long = [...text.matchAll(/needle.{3000}n/gs)].map(({ index }) => [index, 3007]);
    expect(found(bytes, expressionPattern("needle.{3000}n"))).toEqual(long);
    const pairs = ascii("ba".repeat(size / 2));
    expect(found(pairs, expressionPattern("(?<=a)b"))).toHaveLength(size / 2 - 1);
  });

  it("goes on across pages that follow each other by address, and says where the first byte lies", () => {
    const [one, other] = [new Uint8Array(PAGE), new Uint8Array(PAGE)];
    one.set(ascii("abc"), PAGE - 3);
    other.set(ascii("def"));
    const memory = memoryOf({ 7: one, 3: other });
    const stretches = [
      { address: 0x1000n, gpa: 0x7000n, size: 4096n },
      { address: 0x2000n, gpa: 0x3000n, size: 4096n },
    ];
    const { hits } = searchAll(memory, textPattern("abcdef"), stretches);
    expect(hits).toEqual([{ address: 0x1ffdn, gpa: 0x7ffdn, length: 6, bytes: ascii("abcdef"), cut: false }]);
    const second = searchAll(memory, textPattern("ef"), stretches).hits;
    expect(second).toMatchObject([{ address: 0x2001n, gpa: 0x3001n }]);
    const apart = [stretches[0]!, { ...stretches[1]!, address: 0x3000n }];
    expect(searchAll(memory, textPattern("abcdef"), apart).hits).toEqual([]);
    expect(searchAll(memory, textPattern("def"), apart).hits).toMatchObject([{ address: 0x3000n }]);
  });

  it("does not go on across a page that is lacking, and counts by why it is", () => {
    const page = new Uint8Array(PAGE).fill(0x61);
    const memory = memoryOf({ 0: page, 2: page, 4: page }, { 1: "excluded", 3: "cut" });
    const { hits, search } = searchAll(memory, hexPattern("61".repeat(4096)), [
      ...whole(5 * PAGE),
      { address: 0x10000n, gpa: 0x10000n, size: 0x3000n },
    ]);
    expect(hits.map(({ address }) => address)).toEqual([0n, 0x2000n, 0x4000n]);
    expect(search.unsearched).toEqual({ excluded: 4096n, cut: 4096n, absent: 0x3000n });
    expect(search.pages).toBe(5);
  });

  it("passes what is absent in large steps", () => {
    const page = new Uint8Array(PAGE).fill(0x61);
    const memory = memoryOf({ 0: page, 1048576: page });
    let asked = 0;
    const counting: SearchedMemory = {
      ...memory,
      presence: (gpa, size) => {
        asked++;
        const [first, last] = [gpa / 4096n, (gpa + size - 1n) / 4096n];
        return first === 0n || (first <= 0x100000n && last >= 0x100000n) ? "held" : "absent";
      },
    };
    const { hits, search } = searchAll(counting, textPattern("aaaa"), whole(2 ** 32 + PAGE));
    expect(hits.filter(({ gpa }) => gpa >= 2n ** 32n)).toHaveLength(1024);
    expect(search.unsearched.absent).toBe(2n ** 32n - 4096n);
    expect(search.pages).toBeLessThan(3000);
    expect(asked).toBeLessThan(10_000);
  });

  it("keeps to a stretch that begins and ends within a page", () => {
    const page = new Uint8Array(PAGE).fill(0x61);
    const stretch = { address: 0x5010n, gpa: 0x10n, size: 8n };
    const { hits } = searchAll(memoryOf({ 0: page }), hexPattern("61"), [stretch]);
    expect(hits.map(({ address, gpa }) => [address, gpa])).toEqual(
      Array.from({ length: 8 }, (_, i) => [0x5010n + BigInt(i), 0x10n + BigInt(i)]),
    );
  });

  it("finds what ends at the last address", () => {
    const page = new Uint8Array(PAGE);
    page.set(ascii("end"), PAGE - 3);
    const stretch = { address: 2n ** 64n - 4096n, gpa: 0n, size: 4096n };
    const { hits } = searchAll(memoryOf({ 0: page }), textPattern("end"), [stretch]);
    expect(hits).toMatchObject([{ address: 2n ** 64n - 3n }]);
  });

  it("cuts a match that is longer than 4096 bytes where the window ends, and says so", () => {
    const bytes = new Uint8Array(40 * PAGE).fill(0x61);
    const { hits } = searchAll(memoryOf(pagesOf(bytes)), expressionPattern("a+"), whole(bytes.length));
    expect(hits[0]!.cut).toBe(true);
    expect(hits[0]!.length).toBeGreaterThan(4096);
    expect(hits.reduce((sum, { length }) => sum + length, 0)).toBe(bytes.length);
    expect(hits.at(-1)!.cut).toBe(false);
  });

  it("goes on where reading was interrupted, with the hits from before", () => {
    const bytes = new Uint8Array(40 * PAGE);
    for (let page = 0; page < 40; page++) bytes.set(ascii("hit"), page * PAGE + 4094 - (page % 7));
    const memory = memoryOf(pagesOf(bytes));
    const seen = new Set<bigint>();
    const flaky: SearchedMemory = {
      ...memory,
      pageSource: {
        readPage(gfn, into) {
          if (!seen.has(gfn)) {
            seen.add(gfn);
            throw new Error("not yet");
          }
          return memory.pageSource.readPage(gfn, into);
        },
      },
    };
    // Apart by address, so that each interruption comes behind hits.
    const stretches = Array.from({ length: 40 }, (_, i) => ({
      address: BigInt(i * 0x10000),
      gpa: BigInt(i * PAGE),
      size: 4096n,
    }));
    const expected = searchAll(memory, textPattern("hit"), stretches).hits;
    const search = new MemorySearch(flaky, textPattern("hit"), stretches);
    const hits = [];
    for (let finished = false; !finished; ) {
      try {
        const step = search.step(100);
        hits.push(...step.hits);
        finished = step.finished;
      } catch (error) {
        expect((error as Error).message).toBe("not yet");
      }
    }
    expect(hits).toEqual(expected);
    expect(expected.length).toBeGreaterThan(20);
  });

  it("refuses no number of pages", () => {
    expect(() => new MemorySearch(memoryOf({}), hexPattern("00"), []).step(0)).toThrow(RangeError);
  });
});
