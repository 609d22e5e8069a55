/** Opening dumps from blobs, as in a browser. */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { DumpError, openDumpAsync } from "../../src/dump/browser.js";
import { elfCore, limeRange, page } from "./builders.js";

const core = elfCore({
  segments: [
    { gpa: 0x1000n, bytes: page(1) },
    { gpa: 0x100_0000n, bytes: page(0, 0x10_0000) },
    { gpa: 0x200_0000n, bytes: page(2) },
  ],
});

describe("openDumpAsync", () => {
  it.each<[string, () => Blob | ArrayBuffer | Uint8Array]>([
    ["bytes", () => core],
    ["an ArrayBuffer", () => core.slice().buffer],
    ["a Blob", () => new Blob([core as BlobPart])],
    ["gzip bytes", () => new Uint8Array(gzipSync(core))],
    ["a gzip Blob", () => new Blob([gzipSync(core) as BlobPart])],
  ])("opens %s", async (_, input) => {
    const { dump, fetching } = await openDumpAsync(input());
    const into = page(0xee);
    expect(await fetching(() => dump.pageSource.readPage(0x2000n, into))).toBe(true);
    expect(into).toEqual(page(2));
    expect(await fetching(() => dump.pageSource.readPage(0x1001n, into))).toBe(true);
    expect(into).toEqual(page(0));
    expect(await fetching(() => dump.pageSource.readPage(0x2001n, into))).toBe(false);
  });

  it("reads only the needed pieces of a Blob", async () => {
    const blob = new Blob([core as BlobPart]);
    let fetched = 0;
    const slice = blob.slice.bind(blob);
    blob.slice = (start, end, type) => {
      fetched += Math.min(end!, blob.size) - start!;
      return slice(start, end, type);
    };
    const { dump, fetching } = await openDumpAsync(blob);
    await fetching(() => dump.pageSource.readPage(0x2000n, page(0)));
    expect(fetched).toBeLessThan(blob.size / 1.5);
  });

  it("has what is there of a gzip that breaks off, and refuses a broken one, and a Blob that is no dump, naming it", async () => {
    const packed = new Uint8Array(gzipSync(core));
    const { dump } = await openDumpAsync(packed.subarray(0, packed.length - 9));
    expect(dump.warnings[0]).toMatch(/^the gzip data breaks off/);
    expect(dump.pageSource.readPage(1n, page(0))).toBe(true);
    const damaged = packed.slice();
    damaged[damaged.length - 6]! ^= 1;
    await expect(openDumpAsync(damaged, { name: "x.gz" })).rejects.toThrow(/^x\.gz: broken gzip data after 0x\w+/);
    await expect(openDumpAsync(new Blob(["hello"]), { name: "y" })).rejects.toThrow(DumpError);
  });
});

it("refuses a Blob that gives fewer bytes than it has, and does not wait for them", async () => {
  class ShortBlob extends Blob {
    override slice(start?: number, end?: number): Blob {
      const whole = super.slice(start, end);
      return whole.size > 16 ? whole.slice(0, whole.size - 1) : whole;
    }
  }
  await expect(openDumpAsync(new ShortBlob([core as BlobPart]), { name: "short" })).rejects.toThrow(
    /^short: offset 0x0: expected (\d+) bytes, but only \d+ could be read$/,
  );
});

describe("the shared readers and the browser entry", () => {
  it("reach no Node built-in", () => {
    const seen = new Set<string>();
    const visit = (url: URL) => {
      if (seen.has(url.pathname)) return;
      seen.add(url.pathname);
      const text = readFileSync(url, "utf8");
      for (const [, specifier] of text.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)) {
        // What the build takes into dist.
        if (/\/dump\/codec\/(zlib|zstd|xz)\.ts$/.test(url.pathname) && !specifier!.startsWith(".")) {
          expect(["fflate", "zstddec/stream", "xz-decompress"]).toContain(specifier);
          continue;
        }
        expect(specifier, url.pathname).toMatch(/^\.{1,2}\//);
        visit(new URL(specifier!.replace(/\.js$/, ".ts"), url));
      }
    };
    visit(new URL("../../src/dump/browser.ts", import.meta.url));
    expect(seen.size).toBeGreaterThan(8);
  });
});

describe("a large Blob", () => {
  /** A LiME file of 256 MiB, in which only what is read is made. */
  class LargeBlob extends Blob {
    fetched = 0;
    override get size(): number {
      return 32 + 2 ** 28;
    }
    override slice(start = 0, end = this.size): Blob {
      this.fetched += end - start;
      const bytes = new Uint8Array(end - start).fill(7);
      const header = limeRange(0n, new Uint8Array(0), { last: 2n ** 28n - 1n });
      if (start < header.length) bytes.set(header.subarray(start, end));
      return new Blob([bytes]);
    }
  }

  it("is read in pieces, more at once where they follow each other, and kept up to a limit", async () => {
    const blob = new LargeBlob();
    const { dump, fetching } = await openDumpAsync(blob);
    expect(dump.ranges).toEqual([{ gpa: 0n, size: 2n ** 28n }]);
    const into = page(0);
    const read = (gfn: number) => fetching(() => dump.pageSource.readPage(BigInt(gfn), into));
    const before = process.memoryUsage().arrayBuffers;
    for (let gfn = 0; gfn < 2 ** 16; gfn += 16) await read(gfn);
    expect(into).toEqual(page(7));
    expect(blob.fetched).toBeLessThan(1.2 * blob.size);
    globalThis.gc?.();
    // 128 MiB of pieces, and as much again that may not be collected yet.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 28 + 2 ** 27);
    // What was let go is fetched again.
    const fetched = blob.fetched;
    await read(0);
    expect(blob.fetched).toBeGreaterThan(fetched);
  });

  it("may be needed as a whole at once", async () => {
    const { dump, fetching } = await openDumpAsync(new LargeBlob());
    const into = page(0);
    const sum = await fetching(() => {
      let count = 0;
      for (let gfn = 0n; gfn < 2n ** 16n; gfn += 64n) count += dump.pageSource.readPage(gfn, into) ? 1 : 0;
      return count;
    });
    expect(sum).toBe(2 ** 10);
  });
});
