/** Dumps compressed as a whole with xz and zstd, as the real tools write them. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { type Dump, DumpError, InflationLimitError, openDumpFile } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, page } from "./builders.js";

const { file } = temporaryFolder();
const path = (name: string) => new URL(`../fixtures/packed/${name}`, import.meta.url).pathname;
const bytesOf = (name: string) => new Uint8Array(readFileSync(path(name)));
const plain = await openDumpFile(new URL("../fixtures/dumps/i386-nopae/pt.elf.gz", import.meta.url).pathname);
/** Bytes of the ELF core that is in all of them. */
const SIZE = 95_792;

const FILES = [
  ["one block of xz", "i386-nopae.elf.xz"],
  ["several blocks of xz", "blocks.elf.xz"],
  ["zstd", "i386-nopae.elf.zst"],
  ["several frames of zstd", "frames.elf.zst"],
] as const;

/** Pages that are there are those of the plain dump; returns how many. */
function equalPages(dump: Dump): number {
  const [a, b] = [page(0), page(1)];
  let equal = 0;
  for (const { gpa, size } of plain.ranges) {
    for (let at = gpa; at < gpa + size; at += 4096n) {
      if (!dump.pageSource.readPage(at >> 12n, b)) {
        expect(dump.presence(at, 4096n)).toBe("cut");
        continue;
      }
      plain.pageSource.readPage(at >> 12n, a);
      expect(Buffer.compare(a, b)).toBe(0);
      equal++;
    }
  }
  return equal;
}

describe.each(FILES)("%s", (_, name) => {
  it("is the dump that is in it, from a file and from a Blob", async () => {
    const dump = await openDumpFile(path(name));
    expect(equalPages(dump)).toBe(23);
    expect([dump.compressed, dump.warnings]).toEqual([true, []]);
    dump.close();
    const other = await openDumpAsync(new Blob([bytesOf(name)]));
    expect(equalPages(other.dump)).toBe(23);
  });

  it("that breaks off has what is there, and says so", async () => {
    const whole = bytesOf(name);
    for (const length of [100, 500, Math.floor(whole.length / 2), whole.length - 600, whole.length - 1]) {
      const cut = whole.subarray(0, length);
      for (const opened of [openDumpFile(file("cut", cut)), openDumpAsync(cut).then(({ dump }) => dump)]) {
        const dump = await opened.catch((error: unknown) => {
          expect(error, `${length}`).toBeInstanceOf(DumpError);
          return undefined;
        });
        if (dump === undefined) continue;
        expect(dump.warnings[0]).toMatch(/^the (xz|zstd) data breaks off: only the first 0x\w+ bytes/);
        expect(equalPages(dump)).toBeLessThan(length === whole.length - 1 ? 24 : 23);
        dump.close();
      }
    }
  });

  it("that is damaged is refused, wherever", async () => {
    const whole = bytesOf(name);
    for (let at = 20; at < whole.length; at += Math.ceil(whole.length / 60)) {
      const bytes = whole.slice();
      bytes[at]! ^= 0x10;
      const dump = await openDumpFile(file("damaged", bytes)).catch((error: unknown) => {
        expect(error, `${at}`).toBeInstanceOf(DumpError);
        return undefined;
      });
      // What is damaged may be no data: then all is there.
      if (dump !== undefined && dump.warnings.length === 0) expect(equalPages(dump)).toBe(23);
      dump?.close();
    }
  });

  it("inflates to as much as it may", async () => {
    const dump = await openDumpFile(path(name), { maxInflated: SIZE });
    dump.close();
    await expect(openDumpFile(path(name), { maxInflated: SIZE - 1 })).rejects.toThrow(InflationLimitError);
    await expect(openDumpAsync(bytesOf(name), { maxInflated: SIZE - 1 })).rejects.toThrow(InflationLimitError);
  });
});

it("the size that a file says is refused before anything is inflated, naming it and the tool", async () => {
  for (const [name, tool] of [
    ["i386-nopae.elf.xz", "xz -d"],
    ["i386-nopae.elf.zst", "zstd -d"],
  ] as const) {
    await expect(openDumpFile(path(name), { maxInflated: 1000 })).rejects.toThrow(
      `expected at most 1000 bytes of inflated data, found ${SIZE}: unpack it first (${tool})`,
    );
  }
});

it("several xz streams are refused: only the first would be read", async () => {
  const one = bytesOf("i386-nopae.elf.xz");
  await expect(openDumpFile(file("two.xz", concat(one, one)))).rejects.toThrow(
    /several streams\? unpack it first: xz -d/,
  );
});

it("xz inside zstd is no dump", async () => {
  const inner = bytesOf("i386-nopae.elf.xz");
  // A frame with one raw block.
  const size = inner.length;
  const block = size * 8 + 1;
  const frame = Uint8Array.of(
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x60,
    (size - 256) % 256,
    (size - 256) >> 8,
    block % 256,
    block >> 8,
    0,
  );
  await expect(openDumpFile(file("inner.zst", concat(frame, inner)))).rejects.toThrow(/found xz inside zstd/);
});
