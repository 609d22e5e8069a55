/** LiME and raw dumps. */
import { describe, expect, it } from "vitest";
import { DumpError, MemoryByteSource, openDump } from "../../src/dump/index.js";
import { concat, elfCore, limeRange, page } from "./builders.js";

const open = (bytes: Uint8Array, rawOffset?: bigint) =>
  openDump(new MemoryByteSource(bytes, "test.lime"), rawOffset === undefined ? {} : { rawOffset });

function readPage(dump: ReturnType<typeof open>, gfn: bigint): Uint8Array | undefined {
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into : undefined;
}

describe("LiME", () => {
  it("reads ranges, also above 4 GiB and with odd lengths", () => {
    const dump = open(
      concat(
        limeRange(0x1000n, page(1, 0x9c00 - 0x1000)),
        limeRange(0x10_0000n, page(2)),
        limeRange(0x2_0000_0000n, page(3)),
      ),
    );
    expect(dump.format).toBe("lime");
    expect(dump.machine).toBeUndefined();
    expect(readPage(dump, 1n)).toEqual(page(1));
    expect(readPage(dump, 9n)).toEqual(concat(page(1, 0xc00), page(0, 0x400)));
    expect(readPage(dump, 0xan)).toBeUndefined();
    expect(readPage(dump, 0x100n)).toEqual(page(2));
    expect(readPage(dump, 0x20_0000n)).toEqual(page(3));
    expect(dump.ranges.length).toBe(3);
  });

  it("may end at 2^52", () => {
    expect(readPage(open(limeRange((1n << 52n) - 4096n, page(3))), (1n << 40n) - 1n)).toEqual(page(3));
  });

  it("has at most 2^20 ranges", () => {
    const count = 2 ** 20 + 1;
    const ranges = new Uint8Array(count * 33);
    const view = new DataView(ranges.buffer);
    for (let i = 0; i < count; i++) {
      ranges.set(limeRange(0n, page(1, 1)).subarray(0, 8), i * 33);
      view.setBigUint64(i * 33 + 8, BigInt(i) * 4096n, true);
      view.setBigUint64(i * 33 + 16, BigInt(i) * 4096n, true);
    }
    expect(() => open(ranges)).toThrow(/at most 1048576 LiME ranges/);
    expect(open(ranges.subarray(0, ranges.length - 33)).ranges).toHaveLength(2 ** 20);
  });

  it.each<[string, Uint8Array, number, RegExp]>([
    ["a truncated header", limeRange(0n, page(1)).subarray(0, 20), 0, /LiME range header \(32 bytes\)/],
    [
      "a second header with another magic",
      concat(limeRange(0n, page(1)), page(0, 32)),
      4128,
      /LiME magic 0x4c694d45, found 0x0/,
    ],
    ["another version", limeRange(0n, page(1), { version: 2 }), 4, /version 1, found 2/],
    ["a range that ends before it starts", limeRange(0x5000n, page(1), { last: 0x1000n }), 8, /expected a range/],
    ["addresses above 2^52", limeRange(1n << 52n, page(1)), 8, /below 2\^52/],
    ["a range that ends above 2^52", limeRange((1n << 52n) - 4095n, page(1)), 8, /below 2\^52/],
  ])("refuses %s", (_, bytes, offset, message) => {
    let error: unknown;
    try {
      open(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DumpError);
    expect((error as DumpError).message).toMatch(message);
    expect((error as DumpError).offset).toBe(offset);
  });
});

describe("a LiME file that breaks off", () => {
  it("has the pages that are there whole, and says which are not", () => {
    const whole = concat(limeRange(0x1000n, page(1)), limeRange(0x8000n, page(2, 0x3000)));
    const dump = open(whole.subarray(0, whole.length - 0x1234));
    expect(readPage(dump, 8n)).toEqual(page(2));
    expect(readPage(dump, 9n)).toBeUndefined();
    expect(dump.presence(0x9000n, 1n)).toBe("cut");
    expect(dump.warnings).toEqual([expect.stringMatching(/8192 bytes of memory, from 0x9000 on, are not there/)]);
    const second = open(whole.subarray(0, 4128 + 20));
    expect(second.ranges).toEqual([{ gpa: 0x1000n, size: 0x1000n }]);
  });
});

describe("raw", () => {
  it("puts the file's first byte at the given address, aligned or not", () => {
    const dump = open(page(7, 0x1800), 0x1_0000_0800n);
    expect(dump.format).toBe("raw");
    expect(readPage(dump, 0x10_0000n)).toEqual(concat(page(0, 0x800), page(7, 0x800)));
    expect(readPage(dump, 0x10_0001n)).toEqual(page(7));
    expect(readPage(dump, 0x10_0002n)).toBeUndefined();
  });

  it("may end at 2^52", () => {
    expect(readPage(open(page(3), (1n << 52n) - 4096n), (1n << 40n) - 1n)).toEqual(page(3));
  });

  it("does not look at the content", () => {
    expect(open(elfCore(), 0n).format).toBe("raw");
  });

  it("refuses an empty file and addresses above 2^52", () => {
    expect(() => open(new Uint8Array(0), 0n)).toThrow(/empty file/);
    expect(() => open(page(1), (1n << 52n) - 4095n)).toThrow(DumpError);
  });
});
