/** Opening dumps from blobs, as in a browser. */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { DumpError, openDumpAsync } from "../../src/dump/browser.js";
import { elfCore, page } from "./builders.js";

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
