/** Dumps in files: compressed ones, and what no dump is. */
import { existsSync, openSync, readdirSync, readlinkSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { DumpError, openDumpFile } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, elfCore, limeRange, page } from "./builders.js";

const { directory, file } = temporaryFolder();

async function failure(path: string): Promise<DumpError> {
  const error = await openDumpFile(path).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(DumpError);
  expect((error as DumpError).message).not.toContain("\n");
  return error as DumpError;
}

const core = elfCore({
  segments: [
    { gpa: 0x1000n, bytes: page(1, 0x2345) },
    { gpa: 0x10_0000n, bytes: page(0, 0x8_0000) },
    { gpa: 0x20_0000n, bytes: page(2) },
  ],
});

describe("gzip", () => {
  it("reads the same as the inflated file", async () => {
    const plain = await openDumpFile(file("plain.elf", core));
    const packed = await openDumpFile(file("packed.elf.gz", gzipSync(core)));
    expect(packed.compressed).toBe(true);
    expect(packed.ranges).toEqual(plain.ranges);
    const [a, b] = [page(0xaa), page(0xbb)];
    for (const gfn of [0n, 1n, 2n, 3n, 4n, 0x100n, 0x17fn, 0x180n, 0x200n, 0x201n]) {
      const found = plain.pageSource.readPage(gfn, a);
      expect(packed.pageSource.readPage(gfn, b)).toBe(found);
      if (found) expect(b).toEqual(a);
    }
    plain.close();
    packed.close();
  });

  it("reads several members and zero padding behind them, and LiME", async () => {
    const half = 5000;
    const members = concat(gzipSync(core.subarray(0, half)), gzipSync(core.subarray(half)), new Uint8Array(100));
    expect((await openDumpFile(file("members.gz", members))).format).toBe("elf");
    expect((await openDumpFile(file("lime.gz", gzipSync(limeRange(0n, page(1)))))).format).toBe("lime");
  });

  it.each([1, 8, 20, 700])("has what is there of a file that breaks off %i bytes before its end", async (missing) => {
    const noisy = core.map((byte, i) => (i > 0x400 && i < 0x2800 ? Math.imul(i, 0x9e3779b1) >>> 24 : byte));
    const packed = gzipSync(noisy);
    const dump = await openDumpFile(file("broken.gz", packed.subarray(0, packed.length - missing)));
    expect(dump.warnings[0]).toMatch(/^the gzip data breaks off: only the first 0x\w+ bytes of the dump are there$/);
    const into = page(0xee);
    expect(dump.pageSource.readPage(1n, into)).toBe(true);
    const at = 64 + 3 * 56;
    expect(Buffer.compare(into, noisy.subarray(at, at + 4096))).toBe(0);
    dump.close();
  });

  it("refuses garbage behind the data, damage, and a compressed compressed dump", async () => {
    const packed = gzipSync(core);
    expect((await failure(file("a.gz", concat(packed, page(0x55, 10))))).message).toMatch(/gzip/);
    const behindZero = await failure(file("b.gz", concat(packed, new Uint8Array(3), page(0x55, 10))));
    expect(behindZero.message).toMatch(/expected the end of the gzip data/);
    expect(behindZero.offset).toBe(packed.length + 3);
    const damaged = packed.slice();
    damaged[damaged.length - 6]! ^= 1;
    expect((await failure(file("c.gz", damaged))).message).toMatch(/broken gzip data.*incorrect data check/);
    expect((await failure(file("d.gz", gzipSync(packed)))).message).toMatch(/gzip inside gzip/);
    expect((await failure(file("e.gz", gzipSync(new Uint8Array(0))))).message).toMatch(/empty file/);
  });
});

describe("files", () => {
  it("refuses what is not there and what is no file", async () => {
    expect((await failure(join(directory, "nothing"))).message).toMatch(/nothing: cannot be opened: no such file/);
    expect((await failure(directory)).message).toMatch(/expected a regular file/);
  });

  it("opens a sparse 64 GiB dump at once and reads only what is asked for", async () => {
    const size = 2 ** 36;
    const path = join(directory, "sparse.elf");
    // The headers of a core whose one segment covers the rest of the file.
    const headers = elfHeadersOnly(size);
    writeFileSync(path, headers);
    truncateSync(path, 0x1000 + size);
    const descriptor = openSync(path, "r+");
    writeSync(descriptor, page(0x77), 0, 4096, 0x1000 + size - 4096);
    const before = process.memoryUsage().rss;
    const start = performance.now();
    const dump = await openDumpFile(path);
    const into = page(0);
    expect(dump.pageSource.readPage(BigInt(size / 4096 - 1), into)).toBe(true);
    const elapsed = performance.now() - start;
    expect(into).toEqual(page(0x77));
    expect(elapsed).toBeLessThan(100);
    expect(process.memoryUsage().rss - before).toBeLessThan(20 * 2 ** 20);
    dump.close();
  });
});

/** An ELF core with one segment: guest-physical 0 to `size`, at file offset 0x1000, its bytes left out. */
function elfHeadersOnly(size: number): Uint8Array {
  return elfCore({ segments: [{ gpa: 0n, offset: 0x1000n, filesz: BigInt(size) }] });
}

describe("open files", () => {
  const DESCRIPTORS = "/proc/self/fd";
  /** Those of this file's folder: other tests of the process open files, too. */
  const opened = () =>
    readdirSync(DESCRIPTORS).filter((descriptor) => {
      try {
        return readlinkSync(join(DESCRIPTORS, descriptor)).startsWith(directory);
      } catch {
        // Closed in the meantime.
        return false;
      }
    }).length;

  it.runIf(existsSync(DESCRIPTORS))("are closed with the dump, and where it cannot be opened", async () => {
    const paths = [
      file("open.elf", core),
      file("open.elf.gz", gzipSync(core)),
      file("broken.elf", core.subarray(0, 100)),
      file("broken.elf.gz", gzipSync(core).subarray(0, 60)),
      file("no-dump.gz", gzipSync(page(1))),
      file("empty", ""),
    ];
    const before = opened();
    for (const path of paths) {
      const dump = await openDumpFile(path).catch(() => undefined);
      dump?.close();
      await openDumpFile(path, { parts: [path, join(directory, "nothing")] }).catch(() => undefined);
    }
    expect(opened()).toBe(before);
  });
});
