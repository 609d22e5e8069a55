/** AVML's compressed dumps. */
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { DumpError, loadCodecs, MemoryByteSource, openDump } from "../../src/dump/index.js";
import { concat, page } from "./builders.js";
import { avmlRange, crc32c, frame } from "./writers/avml.js";

const codecs = await loadCodecs(["snappy"]);
const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "out.lime.compressed"), { codecs });

const low = concat(
  page(1),
  page(2),
  page(0),
  Uint8Array.from({ length: 70_000 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24),
);
const high = page(9, 0x5000);
const file = (options = {}) => concat(avmlRange(0x1000n, low, options), avmlRange(0x1_0000_0000n, high, options));

function expectPages(dump: ReturnType<typeof open>): void {
  const into = page(0xee);
  for (let at = 0; at + 4096 <= low.length; at += 4096) {
    expect(dump.pageSource.readPage(BigInt(at / 4096 + 1), into)).toBe(true);
    expect(Buffer.compare(into, low.subarray(at, at + 4096)), `${at}`).toBe(0);
  }
  expect(dump.pageSource.readPage(0x10_0004n, into)).toBe(true);
  expect(into).toEqual(page(9));
  expect(dump.pageSource.readPage(0x10_0005n, into)).toBe(false);
}

describe("AVML", () => {
  it("checks CRC-32C as RFC 3720 has it", () => {
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  });

  it.each([
    ["chunks of 64 KiB", {}],
    ["chunks of any size", { chunk: 5000 }],
    ["chunks that are stored as they are", { stored: true }],
  ])("reads %s", async (_, options) => {
    const dump = open(file(options));
    expectPages(dump);
    expect(dump.format).toBe("avml");
    expect(dump.ranges.map(({ gpa, size }) => [gpa, Number(size)])).toEqual([
      [0x1000n, low.length],
      [0x1_0000_0000n, high.length],
    ]);
    expect(dump.warnings).toEqual([]);
    const { dump: other, fetching } = await openDumpAsync(new Blob([file(options) as BlobPart]));
    await fetching(() => expectPages(other));
  });

  it("passes over padding and other chunks without data", () => {
    const range = avmlRange(0x1000n, page(7));
    const at = 32 + 10;
    const padded = concat(range.subarray(0, at), frame(0xfe, page(0, 30)), frame(0x80, page(1, 3)), range.subarray(at));
    const into = page(0);
    expect(open(padded).pageSource.readPage(1n, into)).toBe(true);
    expect(into).toEqual(page(7));
  });

  it("that breaks off has the pages that are there, and says which are not", () => {
    const whole = file({ chunk: 4096 });
    const seen = new Set<string>();
    for (let length = 40; length < whole.length - 8; length += 101) {
      try {
        const dump = open(whole.subarray(0, length));
        const into = page(0xee);
        if (dump.pageSource.readPage(1n, into)) expect(into).toEqual(page(1));
        seen.add(`${dump.presence(0x1000n, 1n)} ${dump.presence(0x1_0000_4000n, 1n)} ${dump.warnings.length}`);
      } catch (error) {
        expect(error).toBeInstanceOf(DumpError);
      }
    }
    expect([...seen].sort()).toEqual(["cut absent 1", "held absent 0", "held absent 1", "held cut 1"]);
  });

  const first = avmlRange(0x1000n, page(1));
  const patched = (at: number, value: number) => {
    const bytes = concat(first, avmlRange(0x9000n, page(2)));
    bytes[at] = value;
    return bytes;
  };
  it.each<[string, Uint8Array, number, RegExp]>([
    ["another version", avmlRange(0n, page(1), { version: 3 }), 4, /AVML version 2, found 3/],
    ["another magic behind a range", patched(first.length, 0), first.length, /AVML magic 0x4c4d5641, found/],
    ["another stream identifier", patched(32 + 4, 0), 32, /stream identifier/],
    ["a chunk of an unknown type", patched(32 + 10, 2), 42, /expected a snappy chunk, found type 0x2/],
    ["more data than the range", patched(17, 0x10), 42, /expected \d+ bytes more of a range/],
  ])("refuses %s", (_, bytes, offset, message) => {
    let error: unknown;
    try {
      open(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DumpError);
    expect(error).toMatchObject({ offset, message: expect.stringMatching(message) });
  });

  it("refuses broken chunks when they are read, by their checksum", () => {
    const chunk = 42;
    let refused = 0;
    for (let at = chunk; at < first.length - 8; at++) {
      const bytes = first.slice();
      bytes[at]! ^= 0x55;
      const into = page(0xee);
      try {
        // Copies from elsewhere in a run give the same bytes; what is no data any more is not there.
        if (open(bytes).pageSource.readPage(1n, into)) expect(into).toEqual(page(1));
      } catch (error) {
        expect(error, `byte ${at}`).toBeInstanceOf(DumpError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });
});
