/** Dumps that are written as others: what is in them, by reading them again. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  convertDump,
  type Dump,
  DumpError,
  loadCodecs,
  MemoryByteSource,
  type OpenSourceOptions,
  openDump,
  reduceDump,
  registersFromDump,
  type WrittenDump,
  writeDumpFile,
} from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, elfCore, limeRange, note, page, prstatusNote, qemuNote, type Segment, table64 } from "./builders.js";
import { avmlRange } from "./writers/avml.js";
import { kdump } from "./writers/kdump.js";
import { msDump } from "./writers/ms-dump.js";
import { vboxCoreNote, vboxCpuNote } from "./writers/vbox.js";
import { crTags, regionTags, vmss } from "./writers/vmss.js";
import { xenCore } from "./writers/xen.js";

const temporary = temporaryFolder();
const codecs = await loadCodecs(["zlib", "lzo", "snappy", "zstd"]);
const open = (bytes: Uint8Array, options: OpenSourceOptions = {}) =>
  openDump(new MemoryByteSource(bytes, "dump"), { codecs, ...options });

/** The file that a written dump is. */
function fileOf(written: WrittenDump): Uint8Array {
  const bytes = new Uint8Array(written.size);
  for (const chunk of written.chunks()) bytes.set(chunk.bytes, chunk.offset);
  return bytes;
}

const FRAMES = 24;

/** Each page, or why there is none. */
function memoryOf(dump: Dump): string[] {
  return Array.from({ length: FRAMES }, (_, frame) => {
    const into = page(0xee);
    if (!dump.pageSource.readPage(BigInt(frame), into)) return dump.presence(BigInt(frame) << 12n, 4096n);
    return Buffer.from(into).toString("latin1");
  });
}

const tablesOf = (dump: Dump) =>
  Array.from({ length: FRAMES }, (_, frame) => dump.tableSource.readPage(BigInt(frame), page(0)));

function registersOf(dump: Dump): unknown {
  try {
    return registersFromDump(dump);
  } catch (error) {
    return (error as Error).name;
  }
}

const ram = () => {
  const bytes = new Uint8Array(0x6000);
  for (const frame of [1, 2, 3, 4]) bytes.set(table64({ 0: BigInt(frame + 1) * 4096n + 7n }), frame * 4096);
  return bytes;
};
const frames = () =>
  Array.from({ length: 6 }, (_, i) => [BigInt(i), ram().subarray(i * 4096, (i + 1) * 4096)] as const);
const VMCOREINFO = note(
  "VMCOREINFO",
  0,
  new TextEncoder().encode("OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=ffffffff81001000\nNUMBER(phys_base)=-16777216\n"),
);
const kdumpPages = new Map(
  [1, 2, 3, 4].map((frame) => [frame, table64({ 0: BigInt(frame + 1) * 4096n + 7n })] as const),
);

const FORMATS: [string, () => Dump][] = [
  [
    "QEMU's core",
    () =>
      open(
        elfCore({
          notes: concat(prstatusNote(), qemuNote({ cr3: 0x1000n, cr4: 0x20n, rip: 5n })),
          segments: [{ gpa: 0n, bytes: ram() }],
        }),
      ),
  ],
  [
    "QEMU's core of a 32-bit guest",
    () =>
      open(
        elfCore({
          bits: 64,
          machine: 3,
          notes: qemuNote({ cr3: 0x1000n, cr4: 0x20n }),
          segments: [{ gpa: 0n, bytes: ram() }],
        }),
      ),
  ],
  [
    "makedumpfile's core",
    () =>
      open(
        elfCore({
          notes: concat(VMCOREINFO, qemuNote({ cr3: 0x1000n, cr4: 0x20n })),
          segments: [{ gpa: 0n, bytes: ram(), memsz: 0x9000n }],
        }),
      ),
  ],
  ["a core without notes", () => open(elfCore({ segments: [{ gpa: 0n, bytes: ram(), memsz: 0x9000n }] }))],
  [
    "a kdump",
    () =>
      open(
        kdump({
          pages: kdumpPages,
          notes: concat(prstatusNote(), qemuNote({ cr3: 0x1000n, cr4: 0x20n })),
          compression: "lzo",
        }),
      ),
  ],
  ["a filtered kdump", () => open(kdump({ pages: kdumpPages, excluded: [0, 5, 6, 9], level: 31 }))],
  ["a kdump whose tables may be missing", () => open(kdump({ pages: kdumpPages, excluded: [0, 5, 6, 9], level: 30 }))],
  ["LiME", () => open(concat(limeRange(0n, ram().subarray(0, 0x2c00)), limeRange(0x8000n, page(7))))],
  ["AVML", () => open(avmlRange(0n, ram()))],
  ["raw", () => open(ram(), { rawOffset: 0x3000n })],
  ["Microsoft's", () => open(msDump({ runs: [[0n, 6n]], pages: ram(), cr3: 0x1000n }))],
  [
    "Microsoft's with a bitmap",
    () => open(msDump({ type: 6, frames: [0, 1, 2, 3, 4, 5], pages: ram(), cr3: 0x1000n, runs: [[0n, 9n]] })),
  ],
  ["Xen's", () => open(xenCore({ pages: frames(), vcpus: [{ cr3: 0x1000n }] }))],
  [
    "Xen's of a paravirtualized guest",
    () => open(xenCore({ pages: frames(), paravirtual: true, vcpus: [{ cr3: 0x1000n }] })),
  ],
  [
    "VirtualBox's",
    () =>
      open(
        elfCore({
          notes: concat(vboxCoreNote(1), vboxCpuNote({ cr3: 0x1000n }, 512)),
          segments: [{ gpa: 0n, bytes: ram() }],
        }),
      ),
  ],
  [
    "VMware's",
    () => {
      const regions = [{ file: 0, memory: 0, pages: 6 }];
      const state = vmss({ cpu: crTags(0, [0x8001_0033n, 0n, 0n, 0x1000n, 0x20n]), memory: regionTags(regions) });
      return open(state, { parts: [new MemoryByteSource(ram(), "vmem")] });
    },
  ],
];

describe("a dump as an ELF core", () => {
  it.each(FORMATS)("of %s has its memory, what was left out, its registers and its notes", (_, make) => {
    const dump = make();
    const written = convertDump(dump, "elf");
    const again = open(fileOf(written));
    expect(written.losses).toEqual([]);
    expect(memoryOf(again)).toEqual(memoryOf(dump));
    expect(tablesOf(again)).toEqual(tablesOf(dump));
    expect(again.cpus).toEqual(dump.cpus);
    expect(again.vmcoreinfo).toBe(dump.vmcoreinfo);
    expect(again.longMode).toEqual(dump.longMode);
    expect(again.root).toEqual(dump.root);
    expect(again.prstatusCount).toBe(dump.prstatusCount);
    expect(registersOf(again)).toEqual(registersOf(dump));
    expect(again.warnings).toEqual(dump.warnings);
    expect(again.tablesOnly).toBe(false);
    // And once more.
    const third = open(fileOf(convertDump(again, "elf")));
    expect(memoryOf(third)).toEqual(memoryOf(dump));
    expect(third.cpus).toEqual(dump.cpus);
    expect(registersOf(third)).toEqual(registersOf(dump));
  });

  it("says in its header whether the processors were in long mode, and has registers and its own note once", () => {
    const of = (name: string) => {
      const dump = FORMATS.find(([one]) => one === name)![1]();
      return Buffer.from(fileOf(convertDump(open(fileOf(convertDump(dump, "elf"))), "elf")));
    };
    expect(of("QEMU's core").readUInt16LE(18)).toBe(62);
    expect(of("QEMU's core of a 32-bit guest").readUInt16LE(18)).toBe(3);
    expect(
      of("VMware's")
        .toString("latin1")
        .match(/X86PAGING/g),
    ).toHaveLength(1);
    expect(of("VMware's").toString("latin1")).toContain('"cr3":"0x1000"');
    expect(of("QEMU's core").toString("latin1")).toContain('"cpus":[]');
  });

  it("has pages that are all zero as holes", () => {
    const dump = open(elfCore({ segments: [{ gpa: 0n, bytes: ram() }] }));
    const written = [...convertDump(dump, "elf").chunks()].map(({ offset }) => offset);
    expect(written).toHaveLength(2 + 4);
    expect(written.slice(2).every((offset) => offset % 4096 === 0)).toBe(true);
  });

  it("has more segments than the header has room for", () => {
    const count = 70_000;
    const file = concat(...Array.from({ length: count }, (_, i) => limeRange(BigInt(i) * 8192n, Uint8Array.of(1, i))));
    const again = open(fileOf(convertDump(open(file), "elf")));
    expect(again.ranges).toHaveLength(count);
    expect(again.ranges.at(-1)).toEqual({ gpa: BigInt(count - 1) * 8192n, size: 2n });
  });

  it("has nothing of what a broken file lacks, and says so: said to be left out, its tables could be read as zero", () => {
    const whole = kdump({ pages: kdumpPages, excluded: [0, 5, 6, 9], level: 31 });
    const dump = open(whole.subarray(0, whole.length - 20));
    expect(dump.memory.lacking.cut.bytes).toBeGreaterThan(0);
    const written = convertDump(dump, "elf");
    expect(written.losses).toEqual([`${dump.memory.lacking.cut.bytes} bytes that the file lacks are absent`]);
    const again = open(fileOf(written));
    expect(memoryOf(again)).toEqual(memoryOf(dump).map((one) => (one === "cut" ? "absent" : one)));
    expect(tablesOf(again)).toEqual(tablesOf(dump));
  });

  it("has whatever parts a dump has, byte by byte", () => {
    const place = fc.nat(63).map((at) => at * 512);
    const part = fc.record({
      gpa: place,
      size: fc.nat(20).map((at) => at * 512),
      more: fc.nat(12).map((at) => at * 512),
    });
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), fc.boolean(), (parts, filtered) => {
        const segments = parts.map(({ gpa, size, more }, index): Segment => {
          const bytes = Uint8Array.from({ length: size }, (_, i) => 1 + ((index * 50 + i) % 250));
          return { gpa: BigInt(gpa), bytes, memsz: BigInt(size + more) };
        });
        const notes = filtered ? { notes: VMCOREINFO } : {};
        let dump: Dump;
        try {
          dump = open(elfCore({ segments, ...notes }));
        } catch (error) {
          expect(error).toBeInstanceOf(DumpError);
          return;
        }
        let written: WrittenDump;
        try {
          written = convertDump(dump, "elf");
        } catch (error) {
          // Pages of which a part is lacking are lacking: there may be no other.
          expect((error as Error).message).toContain("expected something to write, found none");
          return;
        }
        const pages = memoryOf(dump);
        const again = memoryOf(open(fileOf(written)));
        // Of a page that is held in part no byte can be read.
        pages.forEach((one, frame) => {
          if (one === "held") expect(["excluded", "absent"]).toContain(again[frame]);
          else expect(again[frame], `page ${frame}`).toBe(one);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("is refused of a dump without a page", () => {
    const dump = open(elfCore({ segments: [{ gpa: 0x100n, bytes: page(1, 16), memsz: 0x1000n }], notes: VMCOREINFO }));
    expect(() => convertDump(dump, "elf")).toThrow("expected something to write, found none");
  });
});

describe("this project's own note", () => {
  const withNote = (text: string, name = "X86PAGING") =>
    elfCore({ notes: note(name, 1, new TextEncoder().encode(text)), segments: [{ gpa: 0n, bytes: ram() }] });
  const GOOD = { tablesOnly: false, madeOf: "raw", excludedTablesAreZero: false, cpus: [] };

  it.each<[unknown, RegExp]>([
    ["{", /broken note: expected JSON/],
    ["5", /expected a JSON object/],
    [{ ...GOOD, tablesOnly: 1 }, /tablesOnly: expected true or false/],
    [{ ...GOOD, madeOf: 1 }, /madeOf: expected text/],
    [{ ...GOOD, cpus: {} }, /cpus: expected a list/],
    [{ ...GOOD, cpus: [5] }, /expected a JSON object/],
    [{ ...GOOD, cpus: [{ origin: "x", cr0: "0x1" }] }, /cr2: expected a register/],
    [{ ...GOOD, cpus: [{ origin: "x", cr0: 1 }] }, /cr0: expected a hexadecimal number of 64 bits/],
    [{ ...GOOD, cpus: [{ origin: "x", cr0: "0x11112222333344445" }] }, /cr0: expected a hexadecimal number of 64 bits/],
    [
      { ...GOOD, cpus: [{ origin: "x", cr0: "0x1", cr2: "0x1", cr3: "0x1", cr4: "0x1", cpl: 0.5 }] },
      /cpl: expected an integer/,
    ],
    [{ ...GOOD, longMode: [] }, /active: expected true or false/],
    [{ ...GOOD, root: { origin: "x" } }, /cr3: expected a register/],
  ])("is refused where it is %j", (value, message) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    expect(() => open(withNote(text))).toThrow(DumpError);
    expect(() => open(withNote(text))).toThrow(message);
  });

  it("is refused where it is too large, and is none by another name", () => {
    expect(() => open(withNote(`"${"x".repeat(2 ** 22)}"`))).toThrow(/at most 4194304 bytes/);
    expect(open(withNote("{", "X86PAGE")).tablesOnly).toBe(false);
    expect(open(withNote(JSON.stringify({ ...GOOD, tablesOnly: true }))).tablesOnly).toBe(true);
  });
});

describe("a dump as LiME", () => {
  it.each(FORMATS)("of %s has its memory, and says what it lacks", (_, make) => {
    const dump = make();
    const written = convertDump(dump, "lime");
    const again = open(fileOf(written));
    expect(again.format).toBe("lime");
    expect(memoryOf(again)).toEqual(memoryOf(dump).map((one) => (one === "excluded" ? "absent" : one)));
    const losses = written.losses.join("\n");
    expect(/no registers/.test(losses)).toBe(dump.cpus.length > 0 || dump.root !== undefined);
    expect(/does not say what is lacking/.test(losses)).toBe(dump.memory.lacking.excluded.bytes > 0);
  });
});

describe("a dump cut down to its page tables", () => {
  const ROOT = [{ root: 0x1000n, mode: "4level" as const }];

  it.each(FORMATS)("of %s has the tables below its root, and no more", (name, make) => {
    const dump = make();
    if (name === "raw") return;
    const again = open(fileOf(reduceDump(dump, ROOT)));
    const isTable = (frame: number) => frame >= 1 && frame <= 4;
    const expected = memoryOf(dump).map((one, frame) => (isTable(frame) ? one : "absent"));
    // LiME's range ends in the second table.
    expect(memoryOf(again)).toEqual(
      name === "LiME" ? expected.map((one, frame) => (frame > 2 ? "absent" : one)) : expected,
    );
    expect(again.tablesOnly).toBe(true);
    expect(registersOf(again)).toEqual(registersOf(dump));
    expect(again.facts.find(({ label }) => label === "made of")?.value).toMatch(/page tables and notes alone$/);
  });

  it("keeps tables that were left out as such, and lacks those that a broken file lacks", () => {
    const pages = new Map([...kdumpPages].filter(([frame]) => frame !== 3));
    const dump = open(kdump({ pages, excluded: [0, 3], level: 31 }));
    const again = open(fileOf(reduceDump(dump, ROOT)));
    expect(memoryOf(again)[3]).toBe("excluded");
    expect(again.tableSource.readPage(3n, page(1))).toBe(true);
    const whole = kdump({ pages: kdumpPages, excluded: [0], level: 31 });
    const cut = open(whole.subarray(0, whole.length - 20));
    const rest = open(fileOf(reduceDump(cut, ROOT)));
    expect(memoryOf(rest).slice(3, 5)).toEqual(
      memoryOf(cut)
        .slice(3, 5)
        .map((one) => (one === "cut" ? "absent" : one)),
    );
    expect(memoryOf(rest)[4]).toBe("absent");
    expect(rest.tableSource.readPage(4n, page(1))).toBe(false);
  });

  it("has the tables of several roots, and VMCOREINFO that was found in memory", () => {
    const dump = open(
      elfCore({ segments: [{ gpa: 0n, bytes: concat(ram(), table64({ 5: 0x8007n }), page(0), table64({})) }] }),
    );
    const roots = [...ROOT, { root: 0x6000n, mode: "4level" as const }];
    const again = open(fileOf(reduceDump(dump, roots, { vmcoreinfo: "OSRELEASE=5\n" })));
    expect(memoryOf(again).map((one) => one !== "absent")).toEqual(
      Array.from({ length: FRAMES }, (_, frame) => [1, 2, 3, 4, 6, 8].includes(frame)),
    );
    expect(again.vmcoreinfo).toBe("OSRELEASE=5\n");
  });

  it("knows the bit that says that a page is encrypted", () => {
    const C = 1n << 47n;
    const tables = [1n, 2n, 3n, 4n].map((frame) => table64({ 0: ((frame + 1n) << 12n) | C | 7n }));
    const dump = open(elfCore({ segments: [{ gpa: 0x1000n, bytes: concat(...tables) }] }));
    const again = open(fileOf(reduceDump(dump, ROOT, { encryptionMask: C })));
    expect(memoryOf(again).filter((one) => one !== "absent")).toHaveLength(4);
  });
});

describe("a written file", () => {
  const dump = () => open(elfCore({ segments: [{ gpa: 0n, bytes: ram() }] }));

  it("is whole, and sparse", () => {
    const path = join(temporary.directory, "whole.elf");
    const done: number[] = [];
    const written = convertDump(dump(), "elf");
    writeDumpFile(path, written, { onProgress: (at, total) => done.push(at / total) });
    expect(readFileSync(path)).toEqual(Buffer.from(fileOf(written)));
    expect(statSync(path).size).toBe(written.size);
    expect(done.every((part) => part >= 0 && part < 1)).toBe(true);
  });

  it("does not replace another one unless it may", () => {
    const path = temporary.file("there.elf", "old");
    expect(() => writeDumpFile(path, convertDump(dump(), "elf"))).toThrow(/expected no file of that name, found one/);
    expect(readFileSync(path, "utf8")).toBe("old");
    writeDumpFile(path, convertDump(dump(), "elf"), { overwrite: true });
    expect(statSync(path).size).toBeGreaterThan(4096);
  });

  it("is not there where reading fails in the middle, and neither is a part of it", () => {
    const folder = temporary.folder();
    const path = join(folder, "none.elf");
    const failing: WrittenDump = {
      ...convertDump(dump(), "elf"),
      *chunks() {
        yield { offset: 0, bytes: page(1) };
        throw new DumpError("dump", 5, "it broke");
      },
    };
    expect(() => writeDumpFile(path, failing)).toThrow("it broke");
    writeFileSync(path, "old");
    expect(() => writeDumpFile(path, failing, { overwrite: true })).toThrow("it broke");
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["none.elf"]);
    const nowhere = join(folder, "no", "folder.elf");
    expect(() => writeDumpFile(nowhere, convertDump(dump(), "elf"))).toThrow(
      /folder\.elf: cannot be written: no such file/,
    );
    expect(existsSync(nowhere)).toBe(false);
  });
});
