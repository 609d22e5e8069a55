/** Xen's dump-core files. */
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { DumpError, MemoryByteSource, openDump, registersFromDump } from "../../src/dump/index.js";
import { elfCore, page, table64 } from "./builders.js";
import { type XenOptions, xenCore } from "./writers/xen.js";

const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "guest.core"));
const toTable = (frame: bigint) => (frame << 12n) | 7n;

const pages: XenOptions["pages"] = [
  [1n, table64({ 0: toTable(2n) })],
  [2n, table64({ 0: toTable(3n) })],
  [3n, table64({ 0: toTable(4n) })],
  [4n, table64({ 0: toTable(5n) })],
  [0x10_0000n, page(9)],
  [undefined, page(0)],
];
const firstByte = (dump: ReturnType<typeof open>, gfn: bigint) => {
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into[0] : undefined;
};

describe("Xen's cores of fully virtualized guests", () => {
  it("have pages where .xen_pfn says, and none for padding", async () => {
    const file = xenCore({ pages });
    const dump = open(file);
    expect(dump.format).toBe("xen");
    expect(dump.warnings).toEqual([]);
    expect(dump.ranges).toEqual([
      { gpa: 0x1000n, size: 0x4000n },
      { gpa: 1n << 32n, size: 0x1000n },
    ]);
    expect([0n, 1n, 0x10_0000n, 0x10_0001n].map((gfn) => firstByte(dump, gfn))).toEqual([undefined, 7, 9, undefined]);
    const { dump: other, fetching } = await openDumpAsync(new Blob([file as BlobPart]));
    expect(await fetching(() => firstByte(other, 0x10_0000n))).toBe(9);
  });

  it("in any order", () => {
    const dump = open(
      xenCore({
        pages: [
          [7n, page(7)],
          [5n, page(5)],
          [6n, page(6)],
        ],
      }),
    );
    expect([5n, 6n, 7n].map((gfn) => firstByte(dump, gfn))).toEqual([5, 6, 7]);
    expect(dump.ranges).toEqual([{ gpa: 0x5000n, size: 0x3000n }]);
  });

  it("with padding between pages whose frames follow each other", () => {
    const between: XenOptions["pages"] = [
      [5n, page(5)],
      [undefined, page(0)],
      [6n, page(6)],
    ];
    const dump = open(xenCore({ pages: between }));
    expect([5n, 6n].map((gfn) => firstByte(dump, gfn))).toEqual([5, 6]);
  });

  it("have control registers of every processor, and a mode that the tables tell", () => {
    const vcpus = [
      { cr0: 0x8005_0033n, cr2: 0x77n, cr3: 0x1000n, cr4: 0x6a0n, ip: 0x1234n, flags: 0x246n },
      { cr3: 0x2000n, cs: 0x33 },
    ];
    const dump = open(xenCore({ pages, vcpus }));
    expect(dump.longMode).toBeUndefined();
    expect(dump.cpus[0]).toEqual({
      ...{ index: 0, origin: "section .xen_prstatus", cr0: 0x8005_0033n, cr2: 0x77n, cr3: 0x1000n, cr4: 0x6a0n },
      ...{ efer: undefined, rip: 0x1234n, rflags: 0x246n, cpl: 0 },
    });
    expect(dump.cpus[1]).toMatchObject({ index: 1, cr3: 0x2000n, cpl: 3 });
    const { efer, origin } = registersFromDump(dump);
    expect(efer).toBe(0xd00n);
    expect(origin).toMatchObject({
      cr3: "section .xen_prstatus cpu 0",
      efer: expect.stringMatching(/look like 4-level/),
    });
  });

  it.each([
    ["a 32-bit Xen", { context: 32, machine: 3 }],
    ["a 64-bit Xen, whose guest has 32 bits", { context: 64, machine: 3 }],
  ] as const)("of %s", (_, options) => {
    const vcpus = [{ cr3: 0x1000n, ip: 0x99n }, { cr3: 0x2000n }];
    const { cpus } = open(xenCore({ pages, vcpus, ...options }));
    expect(cpus.map(({ cr3, rip }) => [cr3, rip])).toEqual([
      [0x1000n, 0x99n],
      [0x2000n, 0n],
    ]);
  });
});

describe("Xen's cores of paravirtualized guests", () => {
  it("have memory by machine address, and page under Xen whatever CR0 and CR4 show", () => {
    const dump = open(xenCore({ pages, paravirtual: true, vcpus: [{ cr0: 0x33n, cr3: 0x1000n, cr4: 0n }] }));
    expect(dump.ranges[0]).toEqual({ gpa: 0x1000n, size: 0x4000n });
    expect(dump.facts).toContainEqual({ label: "addresses", value: expect.stringMatching(/^machine addresses/) });
    expect(registersFromDump(dump)).toMatchObject({ cr0: 0x8000_0033n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n });
    expect(dump.longMode).toEqual({ active: true, reason: "a paravirtualized guest of 64 bits has LMA=1" });
  });

  it.each(["32 in 64", 32] as const)("of 32 bits have frames of more than 20 bits folded into CR3 (%s)", (context) => {
    const options = { pages, paravirtual: true, machine: 3, context } as const;
    expect(registersFromDump(open(xenCore({ ...options, vcpus: [{ cr3: 0x1000n }] })))).toMatchObject({
      cr3: 0x1000n,
      cr4: 0x20n,
      efer: 0x800n,
    });
    const high = open(xenCore({ ...options, vcpus: [{ cr3: 0x1001n }] }));
    expect(high.cpus).toEqual([]);
    expect(high.warnings).toEqual([
      expect.stringMatching(/processor 0 are at machine address 0x100001000, which no CR3/),
    ]);
  });
});

describe("a Xen core", () => {
  it("that breaks off in its pages has lost the numbers of all, and is refused", () => {
    const whole = xenCore({ pages });
    const at = (name: string) => Buffer.from(whole).lastIndexOf(name);
    expect(() => open(whole.subarray(0, at(".shstrtab") - 60))).toThrow(
      /expected the names of the sections .*the file ends/,
    );
  });

  it("without registers is opened with a warning", () => {
    for (const options of [{ without: [".xen_prstatus"] }, { vcpus: [] }]) {
      const dump = open(xenCore({ pages, ...options }));
      expect(dump.cpus).toEqual([]);
      expect(dump.warnings).toEqual(["registers are not known: the file has none"]);
    }
  });

  it.each<[string, Partial<XenOptions>, RegExp]>([
    ["another magic", { magic: 0xf00febefn }, /core magic 0xf00febed or 0xf00febee, found 0xf00febef/],
    ["other pages", { pageSize: 0x4000n }, /pages of 4096 bytes, found 16384/],
    ["another major version", { format: 1n << 32n }, /core format 0, found 1/],
    ["more pages than bytes", { declaredPages: 7n }, /expected 28672 bytes of \.xen_pages or more, found 24576/],
    ["very many pages", { declaredPages: 1n << 40n }, /at most 268435456 pages/],
    ["no pages", { without: [".xen_pages"] }, /expected the section \.xen_pages/],
    ["no frame numbers", { without: [".xen_pfn"] }, /expected the section \.xen_pfn/],
    [
      "no notes",
      { without: [".note.Xen"] },
      /expected program headers or Xen's sections \(\.note\.Xen\), found \.shstrtab/,
    ],
    ["a frame above 2^52", { pages: [[1n << 40n, page(1)]] }, /frame number below 2\^40, found 0x10000000000/],
    ["padding alone", { pages: [[undefined, page(0)]] }, /expected pages in a Xen core, found none/],
  ])("is refused with %s", (_, options, message) => {
    const file = xenCore({ pages, ...options });
    expect(() => open(file)).toThrow(DumpError);
    expect(() => open(file)).toThrow(message);
  });

  it("is told from other ELF files by its headers alone", () => {
    expect(open(elfCore()).format).toBe("elf");
    const whole = xenCore({ pages });
    for (let at = 0; at < 64; at++) {
      for (const value of [0, 0xff, 1]) {
        const bytes = whole.slice();
        bytes[at] = value;
        try {
          open(bytes);
        } catch (error) {
          expect(error, `byte ${at}`).toBeInstanceOf(DumpError);
        }
      }
    }
  });
});
