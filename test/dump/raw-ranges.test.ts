/** Raw memory in several ranges, and around the hole of a PC. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { type ByteSource, DumpError, MemoryByteSource, openDump, type RawOptions } from "../../src/dump/index.js";
import { openDumpFile } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, elfCore, page } from "./builders.js";

const { file } = temporaryFolder();
const bytes = concat(page(1), page(2), page(3));
const open = (options: RawOptions, source: ByteSource = new MemoryByteSource(bytes, "ram")) =>
  openDump(source, options);

function firstByte(dump: ReturnType<typeof open>, gfn: bigint): number | undefined {
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into[0] : undefined;
}

/** A file of so many bytes, each page of which begins with its number. */
function numbered(size: number): ByteSource {
  return {
    name: "large",
    size,
    read(offset, into) {
      into.fill(0);
      new DataView(into.buffer, into.byteOffset).setFloat64(0, offset / 4096, true);
      return into.length;
    },
  };
}

describe("ranges", () => {
  const rawRanges = [
    { gpa: 0x1_0000_0000n, size: 0x1000n, offset: 0x2000n },
    { gpa: 0x5000n, size: 0x2000n, offset: 0n },
  ];

  it("put parts of a file where they belong, in any order, and nothing else", async () => {
    const dump = open({ rawRanges });
    expect(dump.format).toBe("raw");
    expect(dump.ranges).toEqual([
      { gpa: 0x5000n, size: 0x2000n },
      { gpa: 0x1_0000_0000n, size: 0x1000n },
    ]);
    expect([4n, 5n, 6n, 7n, 0x10_0000n].map((gfn) => firstByte(dump, gfn))).toEqual([undefined, 1, 2, undefined, 3]);
    const { dump: other, fetching } = await openDumpAsync(new Blob([bytes as BlobPart]), { rawRanges });
    expect(await fetching(() => firstByte(other, 0x10_0000n))).toBe(3);
  });

  it("may be of a compressed file, whose content is not looked at", async () => {
    const packed = gzipSync(bytes);
    const dump = await openDumpFile(file("ram.gz", packed), { rawRanges });
    expect(firstByte(dump, 6n)).toBe(2);
    dump.close();
    const { dump: other, fetching } = await openDumpAsync(new Blob([packed]), { rawRanges });
    expect(await fetching(() => firstByte(other, 6n))).toBe(2);
  });

  it("may have the same bytes twice", () => {
    const twice = [0x1000n, 0x8000n].map((gpa) => ({ gpa, size: 0x1000n, offset: 0x1000n }));
    const dump = open({ rawRanges: twice });
    expect([firstByte(dump, 1n), firstByte(dump, 8n)]).toEqual([2, 2]);
  });

  it("of a file of another format are said to be so", () => {
    const core = new MemoryByteSource(elfCore(), "core");
    const { warnings } = open({ rawRanges: [{ gpa: 0n, size: 0x1000n, offset: 0n }] }, core);
    expect(warnings).toEqual(["it begins as an ELF core does, and is read as raw memory all the same"]);
  });

  const range = (gpa: bigint, size: bigint, offset: bigint) => ({ gpa, size, offset });
  it.each<[string, RawOptions, RegExp]>([
    ["none", { rawRanges: [] }, /expected ranges of raw memory, found none/],
    ["an empty one", { rawRanges: [range(0n, 0n, 0n)] }, /found 0:0@0/],
    [
      "one above 2^52",
      { rawRanges: [range((1n << 52n) - 0x1000n, 0x2000n, 0n)] },
      /below 2\^52, found ffffffffff000:8192@0/,
    ],
    ["one below 0", { rawRanges: [range(-0x1000n, 0x2000n, 0n)] }, /below 2\^52/],
    [
      "one beyond the end",
      { rawRanges: [range(0n, 0x1001n, 0x2000n)] },
      /offset 0x2000: .*0:4097@2000, but the file ends at 0x3000/,
    ],
    ["one far beyond the end", { rawRanges: [range(0n, 0x1000n, 1n << 60n)] }, /^ram: expected the bytes of/],
    [
      "overlaps",
      { rawRanges: [range(0x4000n, 0x1000n, 0n), range(0x2000n, 0x2001n, 0n)] },
      /share no address, found 2000:8193@0 and 4000:4096@0/,
    ],
    ["two ways at once", { rawRanges, rawOffset: 0n }, /one of rawOffset, rawRanges and pcHole/],
  ])("are refused: %s", (_, options, message) => {
    expect(() => open(options)).toThrow(DumpError);
    expect(() => open(options)).toThrow(message);
  });

  it("are at most 2^20", () => {
    const many = Array.from({ length: 2 ** 20 + 1 }, (_, i) => range(BigInt(i) * 0x1000n, 1n, 0n));
    expect(() => open({ rawRanges: many })).toThrow(/at most 1048576 ranges/);
  });
});

describe("the hole of a PC", () => {
  const GIB = 2 ** 30;
  it.each([
    ["pc", 3.5 * GIB - 4096, 3.5 * GIB - 4096],
    ["pc", 3.5 * GIB, 3 * GIB],
    ["pc", 8 * GIB, 3 * GIB],
    ["q35", 2.75 * GIB - 4096, 2.75 * GIB - 4096],
    ["q35", 2.75 * GIB, 2 * GIB],
    ["vmware", 3 * GIB, 3 * GIB],
    ["vmware", 3 * GIB + 4096, 3 * GIB],
    [0x4000_0000n, 2 * GIB, GIB],
    [0x4000_0000n, GIB, GIB],
  ] as const)("of %s, with 0x%x bytes, splits at the right place", (pcHole, size, low) => {
    const dump = open({ pcHole }, numbered(size));
    const high = { gpa: 1n << 32n, size: BigInt(size - low) };
    expect(dump.ranges).toEqual([{ gpa: 0n, size: BigInt(low) }, ...(size > low ? [high] : [])]);
    const into = page(0);
    const number = () => new DataView(into.buffer).getFloat64(0, true);
    expect(dump.pageSource.readPage(BigInt(low / 4096 - 1), into)).toBe(true);
    expect(number()).toBe(low / 4096 - 1);
    expect(dump.pageSource.readPage(1n << 20n, into)).toBe(size > low);
    if (size > low) expect(number()).toBe(low / 4096);
    expect(dump.facts[0]!.value).toMatch(size > low ? /with a hole from 0x.*0000000 to 0x100000000/ : /behind its end/);
  });

  it.each([0n, 1n << 32n])("begins above 0 and below 4 GiB: %s is refused", (pcHole) => {
    expect(() => open({ pcHole })).toThrow(/expected a hole that begins above 0 and below 4 GiB/);
  });
});
