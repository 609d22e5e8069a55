/** Microsoft's crash dumps. */
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { DumpError, MemoryByteSource, openDump, openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { concat, page, table64 } from "./builders.js";
import { type MsOptions, msDump } from "./writers/ms-dump.js";

const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "MEMORY.DMP"));
const firstByte = (dump: ReturnType<typeof open>, gfn: bigint) => {
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into[0] : undefined;
};
const pages = concat(page(1), page(2), page(3), page(4));
const runs = [
  [1n, 3n],
  [0x200n, 1n],
] as const;
const firsts = [0n, 1n, 2n, 3n, 4n, 0x200n, 0x201n];
const expected = [undefined, 1, 2, 3, undefined, 4, undefined];

describe("a complete dump", () => {
  it.each([64, 32] as const)("of %d bits has the pages of its runs, one behind the other", async (bits) => {
    const file = msDump({ bits, runs, pages, cr3: 0x1000n });
    const dump = open(file);
    expect(dump.format).toBe("microsoft");
    expect(dump.warnings).toEqual([]);
    expect(firsts.map((gfn) => firstByte(dump, gfn))).toEqual(expected);
    expect(dump.ranges).toEqual([
      { gpa: 0x1000n, size: 0x3000n },
      { gpa: 0x20_0000n, size: 0x1000n },
    ]);
    expect(dump.facts).toContainEqual({ label: "bug check", value: "0xd1, 2 processors" });
    const { dump: other, fetching } = await openDumpAsync(new Blob([file as BlobPart]));
    expect(await fetching(() => firstByte(other, 0x200n))).toBe(4);
  });

  it("that breaks off has what is there", () => {
    const whole = msDump({ runs, pages });
    const dump = open(whole.subarray(0, whole.length - 5000));
    expect(firsts.map((gfn) => firstByte(dump, gfn))).toEqual([
      undefined,
      1,
      2,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect([0x3000n, 0x20_0000n].map((gpa) => dump.presence(gpa, 1n))).toEqual(["cut", "cut"]);
    expect(dump.warnings).toEqual([expect.stringMatching(/the file breaks off/)]);
  });

  it.each<[string, Partial<MsOptions>, RegExp]>([
    ["without runs", { runs: undefined }, /offset 0x2000: expected runs of memory .* found none/],
    ["with very many runs", { declaredRuns: 43 }, /at most 42 runs of memory, found 43/],
    ["of 32 bits with very many runs", { bits: 32, declaredRuns: 87 }, /at most 86 runs of memory, found 87/],
    [
      "with runs that overlap",
      {
        runs: [
          [1n, 3n],
          [3n, 1n],
        ],
      },
      /ascending runs of memory below 2\^52, found 1 pages from 0x3 on/,
    ],
    ["with runs above 2^52", { runs: [[1n << 40n, 1n]] }, /below 2\^52/],
    ["of another machine", { machine: 0xaa64 }, /offset 0x30: expected machine 0x8664 .*found 0xaa64/],
    [
      "that is 32-bit and of another machine",
      { bits: 32, machine: 0x8664 },
      /machine 0x14c \(32-bit x86\), found 0x8664/,
    ],
  ])("%s is refused", (_, options, message) => {
    expect(() => open(msDump({ runs, pages, ...options }))).toThrow(DumpError);
    expect(() => open(msDump({ runs, pages, ...options }))).toThrow(message);
  });

  it("shorter than its header is refused", () => {
    expect(() => open(msDump({ runs, pages }).subarray(0, 0x1fff))).toThrow(/a crash dump header of 64 bits/);
  });
});

describe("a dump with a bitmap", () => {
  const frames = [1, 2, 3, 0x200];
  it.each([
    [64, 5, "SDMPDUMP"],
    [64, 6, "FDMPDUMP"],
    [32, 5, "FDMPDUMP"],
  ] as const)("of %d bits and type %d has the pages whose bit is set", async (bits, type, signature) => {
    const file = msDump({ bits, type, signature, frames, pages, gap: 100 });
    const dump = open(file);
    expect(dump.warnings).toEqual([]);
    expect(firsts.map((gfn) => firstByte(dump, gfn))).toEqual(expected);
    const { dump: other, fetching } = await openDumpAsync(new Blob([file as BlobPart]));
    expect(await fetching(() => firstByte(other, 0x200n))).toBe(4);
  });

  it("has runs that end with a byte of the bitmap, with a block of it and with the bitmap", () => {
    for (const last of [7, 8, 15, 32767, 32768, 40000]) {
      const dump = open(msDump({ type: 5, frames: [last - 1, last], pages: pages.subarray(0, 8192) }));
      expect(dump.ranges).toEqual([{ gpa: BigInt(last - 1) * 4096n, size: 0x2000n }]);
      expect(firstByte(dump, BigInt(last))).toBe(2);
    }
  });

  it("has runs with whole bytes of the bitmap between them", () => {
    const dump = open(msDump({ type: 5, frames: [6, 7, 40, 41], pages, bitmapBits: 100 }));
    expect([6n, 7n, 8n, 39n, 40n, 41n, 42n].map((gfn) => firstByte(dump, gfn))).toEqual([
      ...[1, 2, undefined, undefined, 3, 4, undefined],
    ]);
  });

  it("says what the machine had and the dump does not", () => {
    const dump = open(msDump({ type: 6, frames: [1, 3], pages, runs: [[0n, 0x10n]] }));
    expect([0x1000n, 0x2000n, 0xf000n, 0x1_0000n].map((gpa) => dump.presence(gpa, 1n))).toEqual([
      ...["held", "excluded", "excluded", "absent"],
    ]);
    expect(dump.tableSource.readPage(2n, page(0))).toBe(false);
  });

  it("says where the number of pages is not that of the bits", () => {
    expect(open(msDump({ type: 5, frames, pages, present: 9 })).warnings).toEqual([
      "the header says that there are 9 pages, and the bitmap has 4",
    ]);
  });

  it("that breaks off has what is there", () => {
    const whole = msDump({ type: 5, frames, pages });
    const dump = open(whole.subarray(0, whole.length - 1));
    expect([0x3000n, 0x20_0000n].map((gpa) => dump.presence(gpa, 1n))).toEqual(["held", "cut"]);
  });

  const patched = (at: number, ...values: number[]) => {
    const bytes = msDump({ type: 5, frames, pages });
    bytes.set(values, at);
    return bytes;
  };
  it.each<[string, Uint8Array, RegExp]>([
    [
      "another signature",
      msDump({ type: 5, frames, pages, signature: "RDMPDUMP" }),
      /offset 0x2000: expected a bitmap/,
    ],
    ["very many pages", patched(0x2030, 1, 0, 0, 0x40), /at most 1073741824 pages/],
    ["a bitmap that is not there", patched(0x2030, 0, 0, 0x10), /the bitmap of pages .* but the file ends/],
    ["no pages", msDump({ type: 5, frames: [], pages }), /expected pages in a crash dump, found none/],
  ])("is refused with %s", (_, bytes, message) => {
    expect(() => open(bytes)).toThrow(DumpError);
    expect(() => open(bytes)).toThrow(message);
  });
});

describe("registers of a crash dump", () => {
  const table = (entry: bigint) =>
    concat(table64({ 0: entry }), table64({ 0: 0x3007n }), table64({ 0: 0x4007n }), page(0));
  const of = (options: Partial<MsOptions>, root = table(0x2007n)) =>
    registersFromDump(open(msDump({ runs: [[1n, 4n]], pages: root, cr3: 0x1000n, ...options })));

  it("are the header's root, in long mode where it is of 64 bits", () => {
    const registers = of({});
    expect(registers).toMatchObject({ cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n });
    expect(registers.origin.cr3).toBe("dump header, DirectoryTableBase");
    expect(registers.origin.efer).toMatch(/^inferred: the dump is of 64-bit Windows, so LMA=1; NXE assumed/);
  });

  it.each([
    ["amd64-la57", 0x1020n],
    ["amd64-4l", 0x20n],
  ])("have the levels that the tables of a guest look like (%s)", async (name, cr4) => {
    const guest = await openDumpFile(new URL(`../fixtures/dumps/${name}/pt.elf.gz`, import.meta.url).pathname);
    const frames = guest.ranges.flatMap(({ gpa, size }) =>
      Array.from({ length: Math.ceil(Number(size) / 4096) }, (_, i) => Number(gpa) / 4096 + i),
    );
    const contents = frames.map((frame) => {
      const into = page(0);
      guest.pageSource.readPage(BigInt(frame), into);
      return into;
    });
    const { cr3 } = registersFromDump(guest);
    guest.close();
    const registers = registersFromDump(open(msDump({ type: 5, frames, pages: concat(...contents), cr3 })));
    expect(registers).toMatchObject({ cr3, cr4, efer: 0xd00n });
    expect(registers.origin.cr4).toMatch(/^inferred: the tables look like/);
  });

  it("have PAE where the header of 32 bits says it", () => {
    expect(of({ bits: 32, pae: true })).toMatchObject({
      cr4: 0x30n,
      efer: 0x800n,
      origin: { cr4: "dump header, PaeEnabled" },
    });
    expect(of({ bits: 32, pae: false })).toMatchObject({ cr4: 0x10n, efer: 0n });
  });

  it("give way to those that are given", () => {
    expect(registersFromDump(open(msDump({ runs, pages, cr3: 0x1000n })), { cr3: 0x2000n })).toMatchObject({
      cr3: 0x2000n,
    });
  });
});

describe("types that have no physical memory to read", () => {
  it.each([
    [2, /type 2: a kernel memory dump in the summary format, .*complete memory dump/],
    [3, /a header without memory/],
    [4, /a small memory dump \(triage\)/],
    [7, /an automatic memory dump/],
    [8, /a live kernel memory dump/],
    [9, /a live dump of kernel and user memory/],
    [10, /a live complete memory dump/],
    [77, /type 1, 5 or 6, found type 77$/],
  ])("are refused by their names: %d", (type, message) => {
    for (const bits of [32, 64] as const) {
      const file = msDump({ bits, type, runs, pages });
      expect(() => open(file)).toThrow(DumpError);
      expect(() => open(file)).toThrow(message);
    }
  });
});
