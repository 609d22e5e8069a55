/** What a dump may cost: limits hold for all of its parts together, and files that change are noticed. */
import { execFileSync } from "node:child_process";
import { readdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it, vi } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { SpilledPages } from "../../src/dump/bytes/spilled-pages.js";
import { DumpError, InflationLimitError, MemoryByteSource, openDump, openDumpFile } from "../../src/dump/node.js";
import { inflationLimits } from "../../src/dump/packed/packing.js";
import { temporaryFolder } from "../temporary.js";
import { concat, elfCore, limeRange, note, page, qemuNote } from "./builders.js";

const { directory, file, folder: emptyFolder } = temporaryFolder();

const PT_NOTE = 4;

/** An ELF core whose program headers are all notes, but the last: offset and size of each, relative to `body`. */
function coreOfNotes(parts: readonly (readonly [offset: number, size: number])[], body: Uint8Array): Uint8Array {
  const at = 64 + (parts.length + 1) * 56;
  const segments = [...parts.map(() => ({ gpa: 0n, bytes: body.subarray(0, 0) })), { gpa: 0x1000n, bytes: body }];
  const bytes = elfCore({ segments });
  const view = new DataView(bytes.buffer);
  parts.forEach(([offset, size], index) => {
    const header = 64 + index * 56;
    view.setUint32(header, PT_NOTE, true);
    view.setBigUint64(header + 8, BigInt(at + offset), true);
    view.setBigUint64(header + 32, BigInt(size), true);
  });
  return bytes;
}

const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "dump"));

describe("notes", () => {
  const two = concat(qemuNote({ cr3: 0x1000n }), qemuNote({ cr3: 0x2000n }));
  const half = two.length / 2;

  it("of several segments are read in the order of the program headers", () => {
    const parts = [
      [half, half],
      [0, 0],
      [0, half],
      [0, 0],
    ] as const;
    expect(open(coreOfNotes(parts, two)).cpus.map(({ cr3 }) => cr3)).toEqual([0x2000n, 0x1000n]);
  });

  it.each([
    [
      "name the same bytes",
      [
        [0, two.length],
        [0, two.length],
      ],
    ],
    [
      "overlap",
      [
        [half, half],
        [0, half + 4],
      ],
    ],
  ] as const)("are refused where two segments %s", (_, parts) => {
    expect(() => open(coreOfNotes(parts, two))).toThrow(/offset 0x78: expected note segments that share no bytes/);
  });

  it("are limited in all, not only in each segment", () => {
    const body = new Uint8Array(33 * 2 ** 20);
    const size = body.length;
    expect(() => open(coreOfNotes([[0, size]], body))).not.toThrow();
    const doubled = [
      [0, size],
      [1, size - 1],
    ] as const;
    expect(() => open(coreOfNotes(doubled, body))).toThrow(
      /offset 0x78: expected notes of at most 67108864 bytes in all/,
    );
  });

  it("have a VMCOREINFO of at most 1 MiB, NULs or not", () => {
    const core = (size: number) =>
      elfCore({ notes: note("VMCOREINFO", 0, concat(new Uint8Array(size - 2), page(65, 2))) });
    expect(open(core(2 ** 20)).vmcoreinfo).toHaveLength(2 ** 20);
    expect(() => open(core(2 ** 20 + 4))).toThrow(/expected a VMCOREINFO of at most 1048576 bytes, found 1048580/);
  });
});

describe("what a gzip file may inflate to", () => {
  it("is what the caller says, else 4 GiB, of which 1 GiB not zero, or 64 and 16 times its size", () => {
    expect(inflationLimits(2 ** 40, 1000)).toEqual({ limit: 1000, keptLimit: 1000 });
    expect(inflationLimits(1000, undefined)).toEqual({ limit: 2 ** 32, keptLimit: 2 ** 30 });
    expect(inflationLimits(2 ** 26, undefined)).toEqual({ limit: 2 ** 32, keptLimit: 2 ** 30 });
    expect(inflationLimits(2 ** 27, undefined)).toEqual({ limit: 2 ** 33, keptLimit: 2 ** 31 });
  });
});

describe("program headers", () => {
  /** An ELF header that promises `count` program headers of `size` bytes. */
  function promising(count: number, size: number): Uint8Array {
    const bytes = elfCore({ xnum: true });
    const view = new DataView(bytes.buffer);
    view.setUint16(54, size, true);
    view.setUint32(64 + 44, count, true);
    return bytes;
  }

  it("are refused where there are too many, or too large ones, before the file's size matters", () => {
    expect(() => open(promising(2 ** 20 + 1, 56))).toThrow(/expected at most 1048576 program headers, found 1048577/);
    expect(() => open(promising(2 ** 20, 257))).toThrow(/expected program headers of 268435456 bytes at most/);
    expect(() => open(promising(2 ** 20, 56))).toThrow(/but the file ends at/);
  });
});

describe("a gzip file", () => {
  const core = elfCore({
    segments: [
      { gpa: 0x1000n, bytes: page(1, 2 ** 20) },
      { gpa: 2n ** 30n, bytes: new Uint8Array(2 ** 20) },
    ],
  });
  const packed = gzipSync(core);

  it("may inflate to as much as the caller allows", async () => {
    const path = file("limit.gz", packed);
    await expect(openDumpFile(path, { maxInflated: core.length })).resolves.toBeDefined();
    await expect(openDumpAsync(packed, { maxInflated: core.length })).resolves.toBeDefined();
    const message = `expected at most ${core.length - 1} bytes of inflated data, found more`;
    await expect(openDumpFile(path, { maxInflated: core.length - 1 })).rejects.toThrow(message);
    await expect(openDumpAsync(packed, { maxInflated: core.length - 1 })).rejects.toThrow(InflationLimitError);
  });

  it("may have so many pages in memory in a browser that are not zero", async () => {
    await expect(openDumpAsync(packed, { maxKept: 2 ** 20 + 4096 })).resolves.toBeDefined();
    await expect(openDumpAsync(packed, { maxKept: 2 ** 20 })).rejects.toThrow(
      "expected at most 1048576 bytes of inflated pages that are not zero, found more",
    );
  });

  it.each([
    ["text", concat(new TextEncoder().encode("hello"), page(1, 2 ** 20)), /offset 0x0: expected an ELF core/],
    [
      "an ELF file of another kind",
      elfCore({ type: 2, segments: [{ gpa: 0n, bytes: page(1, 2 ** 20) }] }),
      /offset 0x10: expected ELF type 4/,
    ],
  ])("with %s in it is refused by its first block", async (_, content, message) => {
    // Were more than the first block looked at, the limit would be what is wrong.
    const options = { maxInflated: 2 ** 19 };
    await expect(openDumpFile(file("other.gz", gzipSync(content)), options)).rejects.toThrow(message);
    await expect(openDumpAsync(gzipSync(content), options)).rejects.toThrow(message);
  });

  it("is raw memory where the caller says so", async () => {
    const path = file("raw.gz", gzipSync(page(7, 8192)));
    expect((await openDumpFile(path, { rawOffset: 0n })).ranges).toEqual([{ gpa: 0n, size: 8192n }]);
  });

  it("keeps pages beyond a limit in a temporary file without a name", () => {
    const folder = emptyFolder();
    vi.stubEnv("TMPDIR", folder);
    const pages = new SpilledPages("dump", 3 * 4096);
    for (let i = 0; i < 600; i++) pages.add(page(i % 256));
    const into = new Uint8Array(96);
    for (const [number, offset] of [
      [0, 0],
      [2, 4000],
      [3, 0],
      [258, 7],
      [259, 4000],
      [514, 4000],
      [515, 1],
      [599, 0],
    ] as const) {
      pages.read(number, offset, into.fill(0xee));
      expect(into, `page ${number}`).toEqual(page(number % 256, 96));
    }
    expect(readdirSync(folder)).toEqual([]);
    pages.close();
    vi.unstubAllEnvs();
  });
});

describe("a file that becomes shorter after it was opened", () => {
  it.each([
    ["an ELF core", elfCore({ segments: [{ gpa: 0n, bytes: page(1, 0x4000) }] })],
    ["a LiME dump", limeRange(0n, page(1, 0x4000))],
  ])("fails at the page that is gone: %s", async (_, bytes) => {
    const path = file("shrinking", bytes);
    const dump = await openDumpFile(path);
    const kept = bytes.length - 0x1800;
    truncateSync(path, kept);
    const into = page(0);
    expect(dump.pageSource.readPage(1n, into)).toBe(true);
    expect(into).toEqual(page(1));
    let error: unknown;
    try {
      dump.pageSource.readPage(2n, into);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DumpError);
    const { message, offset } = error as DumpError;
    expect(offset).toBe(bytes.length - 0x2000);
    expect(message).toMatch(
      /shrinking: offset 0x\w+: expected memory at 0x2000 \(4096 bytes\), but only 2048 could be read: the file has become shorter/,
    );
    dump.close();
  });

  it("fails in a browser at the piece that is gone", async () => {
    const blob = new Blob([elfCore({ segments: [{ gpa: 0n, bytes: page(1, 2 ** 20) }] }) as BlobPart]);
    const slice = blob.slice.bind(blob);
    blob.slice = (start, end, type) => slice(start, Math.min(end!, 2 ** 19 + 5), type);
    const { dump, fetching } = await openDumpAsync(blob);
    await expect(fetching(() => dump.pageSource.readPage(127n, page(0)))).rejects.toThrow(
      /offset 0x80000: expected \d+ bytes, but only \d+ could be read/,
    );
  });
});

describe("what is no regular file", () => {
  it("is refused before it is opened, which could wait for ever", async () => {
    const fifo = join(directory, "fifo");
    execFileSync("mkfifo", [fifo]);
    await expect(openDumpFile(fifo)).rejects.toThrow(/fifo: expected a regular file, found a pipe/);
    await expect(openDumpFile("/dev/zero")).rejects.toThrow(/expected a regular file, found a device/);
  });
});
