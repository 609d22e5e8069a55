/** Flattened files: blocks in any order, the last one of an offset counts. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { FlattenedScan } from "../../src/dump/formats/flattened.js";
import { DumpError, loadCodecs, MemoryByteSource, openDump } from "../../src/dump/index.js";
import { concat, elfCore, page } from "./builders.js";
import { type Block, blocksOf, flattened } from "./writers/flattened.js";
import { kdump } from "./writers/kdump.js";

const codecs = await loadCodecs(["zlib"]);
const scan = (bytes: Uint8Array) => new FlattenedScan(new MemoryByteSource(bytes, "flat")).run();
const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "flat"), { codecs });

describe("a flattened file", () => {
  it("stands for what its blocks write, one after the other, with holes of zeros", () => {
    const block = fc.record({ offset: fc.nat(300), bytes: fc.uint8Array({ minLength: 1, maxLength: 80 }) });
    fc.assert(
      fc.property(fc.array(block, { minLength: 1, maxLength: 12 }), fc.nat(400), fc.nat(100), (blocks, at, length) => {
        const file = new Uint8Array(Math.max(...blocks.map(({ offset, bytes }) => offset + bytes.length)));
        for (const { offset, bytes } of blocks) file.set(bytes, offset);
        const real = scan(flattened(blocks));
        expect(real.size).toBe(file.length);
        expect(real.complete).toBe(true);
        const into = new Uint8Array(length).fill(0xee);
        const wanted = file.subarray(at, at + length);
        expect(real.read(at, into)).toBe(wanted.length);
        expect(into.subarray(0, wanted.length)).toEqual(wanted.slice());
        expect(real.holds(at, length)).toBe(at + length <= file.length);
      }),
      { numRuns: 200 },
    );
  });

  const pages = new Map([
    [1, page(1)],
    [5, page(2)],
  ]);
  const file = kdump({ pages });
  const shuffled = (blocks: Block[]) => blocks.map((_, i) => blocks[(i * 7 + 3) % blocks.length]!);

  it.each([
    ["in order", flattened(blocksOf(file, 4096))],
    ["in another order", flattened(shuffled(blocksOf(file, 3000)))],
    ["overwritten", flattened([{ offset: 0, bytes: page(0xff, 9000) }, ...blocksOf(file, 5000)])],
  ])("of a kdump, with blocks %s, is that kdump", async (_, bytes) => {
    const dump = open(bytes);
    const into = page(0);
    for (const [frame, content] of pages) {
      expect(dump.pageSource.readPage(BigInt(frame), into)).toBe(true);
      expect(into).toEqual(content);
    }
    expect(dump.facts[0]!.value).toMatch(/^kdump-compressed.*; flattened$/);
    expect(dump.warnings).toEqual([]);
    const { dump: other, fetching } = await openDumpAsync(new Blob([bytes as BlobPart]));
    expect(await fetching(() => other.pageSource.readPage(5n, into))).toBe(true);
    expect(into).toEqual(page(2));
  });

  it("may be of an ELF core", () => {
    const dump = open(flattened(blocksOf(elfCore({ segments: [{ gpa: 0x3000n, bytes: page(3) }] }), 100)));
    expect(dump.ranges).toEqual([{ gpa: 0x3000n, size: 0x1000n }]);
  });

  it("that breaks off has what its blocks wrote, and no zeros for the rest", () => {
    const whole = flattened(blocksOf(file, 2048));
    const codes = new Set<string>();
    for (let length = 4096; length < whole.length - 16; length += 61) {
      try {
        const dump = open(whole.subarray(0, length));
        expect(dump.warnings[0], `${length}`).toMatch(/^the flattened file breaks off at 0x\w+$/);
        const into = page(0xee);
        for (const [frame, content] of pages) {
          const read = dump.pageSource.readPage(BigInt(frame), into);
          if (read) expect(into).toEqual(content);
          codes.add(`${frame} ${read}`);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(DumpError);
        codes.add("refused");
      }
    }
    expect([...codes].sort()).toEqual(["1 false", "1 true", "5 false", "refused"]);
    const hole = [
      { offset: 0, bytes: page(1) },
      { offset: 9000, bytes: page(2) },
    ];
    const holds = (end: boolean, at: number, length: number) => scan(flattened(hole, end)).holds(at, length);
    expect([holds(true, 4000, 200), holds(false, 4000, 200)]).toEqual([true, false]);
    expect([holds(false, 4000, 96), holds(false, 8999, 2), holds(false, 9000, 4096)]).toEqual([true, false, true]);
  });

  it.each<[string, (view: DataView) => void, number, RegExp]>([
    ["another type", (view) => view.setBigInt64(16, 2n), 16, /type 1, version 1, found type 2/],
    ["another version", (view) => view.setBigInt64(24, 9n), 16, /found type 1, version 9/],
    ["a block without bytes", (view) => view.setBigInt64(4104, 0n), 4096, /expected a block .*found 0 bytes/],
    ["a block before the file", (view) => view.setBigInt64(4096, -5n), 4096, /for offset -5/],
    ["a block behind all files", (view) => view.setBigInt64(4096, 1n << 62n), 4096, /expected a block/],
    ["half an end mark", (view) => view.setBigInt64(4096, -1n), 4096, /expected a block/],
  ])("with %s is refused", (_, change, offset, message) => {
    const bytes = flattened(blocksOf(file, 4096));
    change(new DataView(bytes.buffer));
    let error: unknown;
    try {
      open(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DumpError);
    expect(error).toMatchObject({ offset, message: expect.stringMatching(message) });
  });

  it("inside another one is no dump", () => {
    const twice = flattened(blocksOf(flattened(blocksOf(file, 4096)), 4096));
    expect(() => open(twice)).toThrow(/expected an ELF core, a kdump/);
    expect(() => open(concat(flattened([]).subarray(0, 4096)))).toThrow(DumpError);
  });
});
