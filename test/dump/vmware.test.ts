/** VMware's state files with the memory beside or in them. */
import { describe, expect, it } from "vitest";
import { openDumpAsync } from "../../src/dump/browser.js";
import { DumpError, MemoryByteSource, openDump, openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, page, table64 } from "./builders.js";
import { crTags, regionTags, tag32, tag64, type VmssTag, vmss } from "./writers/vmss.js";

const { file } = temporaryFolder();
const toTable = (frame: bigint) => (frame << 12n) | 7n;
const low = [page(1), ...[2n, 3n, 4n, 5n].map((frame) => table64({ 0: toTable(frame) }))];
const vmem = concat(...low, page(9), page(10));
const regions = regionTags([
  { file: 0, memory: 0, pages: 5 },
  { file: 5, memory: 0x10_0000, pages: 2 },
]);
const cpus = [
  tag32("cpu:numVCPUs", [], 2),
  ...crTags(0, [0x8005_0033n, 0n, 0x77n, 0x1000n, 0x6a0n]),
  tag64("rip", [0], 0x1234n),
  tag32("eflags", [0], 0x246),
  ...crTags(1, [0x8005_0033n, 0n, 0n, 0x2000n, 0x20n]),
];
const other: VmssTag[] = [{ name: "block", indices: [1, 2, 3], value: page(5, 300), block: "plain", padding: 7 }];
const state = vmss({ Checkpoint: other, cpu: [...other, ...cpus], memory: [...other, ...regions] });

const source = (bytes: Uint8Array, name = "vm.vmss") => new MemoryByteSource(bytes, name);
const open = (bytes: Uint8Array, memory: Uint8Array | undefined = vmem) =>
  openDump(source(bytes), { parts: memory === undefined ? [] : [source(memory, "vm.vmem")] });
const firstByte = (dump: ReturnType<typeof open>, gfn: bigint) => {
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into[0] : undefined;
};

function expectSound(dump: ReturnType<typeof open>): void {
  expect(dump.format).toBe("vmware");
  expect(dump.warnings).toEqual([]);
  expect(dump.ranges).toEqual([
    { gpa: 0n, size: 0x5000n },
    { gpa: 1n << 32n, size: 0x2000n },
  ]);
  expect([0n, 1n, 5n, 0x10_0000n, 0x10_0001n].map((gfn) => firstByte(dump, gfn))).toEqual([1, 7, undefined, 9, 10]);
}

describe("a state file and a .vmem", () => {
  it("have memory in its regions and control registers of every processor", () => {
    const dump = open(state);
    expectSound(dump);
    expect(dump.cpus[0]).toEqual({
      ...{ index: 0, origin: "state file", cr0: 0x8005_0033n, cr2: 0x77n, cr3: 0x1000n, cr4: 0x6a0n },
      ...{ efer: undefined, rip: 0x1234n, rflags: 0x246n, cpl: undefined },
    });
    expect(dump.cpus[1]).toMatchObject({ index: 1, cr3: 0x2000n, rip: undefined });
    const { efer, origin } = registersFromDump(dump);
    expect(efer).toBe(0xd00n);
    expect(origin).toMatchObject({ cr3: "state file cpu 0", efer: expect.stringMatching(/look like 4-level/) });
  });

  it("may be given in either order, as Blobs too", async () => {
    expectSound(openDump(source(vmem, "vm.vmem"), { parts: [source(state)] }));
    for (const [first, second] of [
      [vmem, state],
      [state, vmem],
    ] as const) {
      const parts = [new Blob([second as BlobPart])];
      const { dump, fetching } = await openDumpAsync(new Blob([first as BlobPart]), { parts });
      await fetching(() => expectSound(dump));
    }
  });

  it("find each other by their names in files, unless something else is said", async () => {
    for (const ending of ["vmss", "vmsn"]) {
      const [memory, beside] = [file(`${ending}.vmem`, vmem), file(`${ending}.${ending}`, state)];
      for (const path of [memory, beside]) {
        const dump = await openDumpFile(path);
        expectSound(dump);
        dump.close();
      }
      const raw = await openDumpFile(memory, { rawOffset: 0n });
      expect(raw.format).toBe("raw");
      raw.close();
      await expect(openDumpFile(beside, { parts: [] })).rejects.toThrow(/expected the memory file \(\.vmem\) .*--part/);
    }
  });

  it("of all magics are read", () => {
    for (const magic of [0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbad2bad2, 0xbed0bed0]) {
      expectSound(open(vmss({ cpu: [...other, ...cpus], memory: [...other, ...regions] }, { magic })));
    }
  });

  it("may have control registers as a block, or of 32 bits", () => {
    const words = BigUint64Array.of(0x8005_0033n, 0n, 0x77n, 0x1000n, 0x20n, 1n, 2n, 3n, 4n);
    const block: VmssTag = { name: "CR64", indices: [0], value: new Uint8Array(words.buffer), block: "plain" };
    expect(open(vmss({ memory: regions, cpu: [block] })).cpus[0]).toMatchObject({
      cr2: 0x77n,
      cr3: 0x1000n,
      cr4: 0x20n,
    });
    const narrow = [0x8000_0011, 0, 0, 0x2000, 0].map((value, index) => tag32("CR", [0, index], value));
    expect(open(vmss({ memory: regions, cpu: narrow })).cpus[0]).toMatchObject({ cr0: 0x8000_0011n, cr3: 0x2000n });
    expect(
      open(vmss({ memory: regions, cpu: [...crTags(0, [1n, 0n, 0n, 0x3000n, 0n]), ...narrow] })).cpus[0]?.cr3,
    ).toBe(0x3000n);
  });

  it("without regions have all of the memory from 0 on", () => {
    const dump = open(vmss({ memory: [tag32("regionsCount", [], 0)], cpu: cpus }));
    expect(dump.ranges).toEqual([{ gpa: 0n, size: 0x7000n }]);
  });

  it("may be one file, whose memory begins behind padding", () => {
    const inside: VmssTag = { name: "Memory", indices: [0, 0], value: vmem, block: "plain", padding: 333 };
    const whole = vmss({ cpu: cpus, memory: [...regions, inside] });
    expectSound(openDump(source(whole)));
    const both = open(whole, page(0));
    expect(firstByte(both, 0x10_0000n)).toBe(9);
    expect(both.warnings).toEqual(["it has the memory itself: the other file is not read"]);
  });

  it("of which the memory breaks off have what is there", () => {
    const dump = open(state, vmem.subarray(0, 0x5800));
    expect(dump.presence((1n << 32n) + 0x1000n, 1n)).toBe("cut");
    expect(dump.warnings).toEqual([expect.stringMatching(/the file breaks off at 0x5800: 8192 bytes/)]);
  });

  it("of which the state breaks off have what is there, and are refused without the regions", () => {
    const seen = new Set<string>();
    const ordered = vmss({ memory: regions, cpu: cpus });
    for (let length = 4; length < ordered.length; length++) {
      try {
        const dump = open(ordered.subarray(0, length));
        expect(dump.ranges).toHaveLength(2);
        seen.add(`${dump.cpus.length} ${dump.warnings.length}`);
      } catch (error) {
        expect(error).toBeInstanceOf(DumpError);
        seen.add((error as Error).message.replace(/.*(but the file).*/, "$1"));
      }
    }
    expect([...seen]).toEqual(expect.arrayContaining(["but the file", "0 1", "0 2", "1 2", "2 1"]));
    for (const one of seen) expect(one).not.toMatch(/ 0$/);
  });

  it("says where it has fewer processors than it says", () => {
    const gap = [tag32("cpu:numVCPUs", [], 2), ...crTags(1, [1n, 0n, 0n, 0x1000n, 0n])];
    const dump = open(vmss({ memory: regions, cpu: gap }));
    expect(dump.cpus).toEqual([]);
    expect(dump.warnings).toEqual(["the state file says that there are 2 processors, and has registers of 0"]);
  });

  const memoryTag: VmssTag = { name: "Memory", indices: [0, 0], value: page(1), block: "compressed" };
  const region = (memory: number) => ({ file: 0, memory, pages: 2 });
  it.each<[string, Uint8Array, RegExp]>([
    ["compressed memory", vmss({ memory: [memoryTag] }), /memory as it is, found it compressed/],
    ["overlaps", vmss({ memory: regionTags([region(0), region(1)]) }), /share no address/],
    ["very many regions", vmss({ memory: [tag32("regionsCount", [], 1025)] }), /at most 1024 regions, found 1025/],
    [
      "a region that is not there",
      vmss({ memory: [tag32("regionsCount", [], 1)] }),
      /regionPPN of region 0, found none/,
    ],
    [
      "very many groups",
      concat(vmss({}).subarray(0, 8), Uint8Array.of(0, 0, 1, 0)),
      /at most 1024 groups, found 65536/,
    ],
    ["groups behind its end", concat(vmss({}).subarray(0, 8), Uint8Array.of(9, 0, 0, 0)), /the groups .* file ends/],
  ])("is refused with %s", (_, bytes, message) => {
    expect(() => open(bytes)).toThrow(DumpError);
    expect(() => open(bytes)).toThrow(message);
  });

  it("is refused with two memories", () => {
    const parts = [source(vmem, "a.vmem"), source(vmem, "b.vmem")];
    expect(() => openDump(source(state), { parts })).toThrow(/found 2 parts/);
  });
});

describe("a .vmem alone", () => {
  it("is raw memory, with VMware's hole, and a warning that says so", async () => {
    const dump = openDump(source(vmem, "Alone.VMEM"));
    expect(dump.format).toBe("raw");
    expect(dump.ranges).toEqual([{ gpa: 0n, size: 0x7000n }]);
    expect(dump.warnings).toEqual([
      expect.stringMatching(/no state file .*up to 3 GiB from 0 on and the rest from 4 GiB/),
    ]);
    const path = file("lonely.vmem", vmem);
    file("lonely.vmss", "no state file");
    const opened = await openDumpFile(path);
    expect(opened.format).toBe("raw");
    opened.close();
  });

  it("is refused under another name", () => {
    expect(() => openDump(source(vmem, "memory.bin"))).toThrow(/expected an ELF core.*a VMware state file/);
  });
});
