/** ELF core dumps: segments, notes, and what is refused. */
import { describe, expect, it } from "vitest";
import { DumpError, MemoryByteSource, openDump } from "../../src/dump/index.js";
import { concat, type ElfOptions, elfCore, note, page, prstatusNote, qemuNote } from "./builders.js";

const open = (bytes: Uint8Array) => openDump(new MemoryByteSource(bytes, "test.elf"));
const openElf = (options: ElfOptions) => open(elfCore(options));

function readPage(dump: ReturnType<typeof open>, gfn: bigint): Uint8Array | undefined {
  // Dirty on purpose: every byte must be written.
  const into = page(0xee);
  return dump.pageSource.readPage(gfn, into) ? into : undefined;
}

describe("layouts of QEMU's own files", () => {
  it.each([
    ["e_ehsize 8", { ehsize: 8 }],
    ["section headers before the program headers", { beforeProgramHeaders: 640 }],
    ["an unaligned p_offset", { gap: 0x333 }],
    ["a 32-bit guest as ELFCLASS64 with EM_386", { machine: 3 }],
    ["ELFCLASS32", { bits: 32 as const }],
    ["PN_XNUM with the count in section header 0", { xnum: true }],
    ["PN_XNUM in ELFCLASS32", { bits: 32 as const, xnum: true }],
  ])("reads %s", (_, options: ElfOptions) => {
    const dump = openElf({ ...options, segments: [{ gpa: 0x5000n, bytes: page(5) }] });
    expect(readPage(dump, 5n)).toEqual(page(5));
    expect(readPage(dump, 4n)).toBeUndefined();
    expect(dump.ranges).toEqual([{ gpa: 0x5000n, size: 0x1000n }]);
  });

  it("takes the machine from e_machine, not from the class", () => {
    expect(openElf({ machine: 3 }).machine).toBe("i386");
    expect(openElf({ machine: 62 }).machine).toBe("x86_64");
  });

  it("reads more than 65,535 segments", () => {
    const count = 70_000;
    const shared = page(7);
    const segments = Array.from({ length: count }, (_, i) => ({
      gpa: BigInt(count - i) * 0x2000n,
      bytes: i === 9 ? shared : page(0, 16),
    }));
    const dump = openElf({ xnum: true, segments });
    expect(dump.ranges.length).toBe(count);
    expect(readPage(dump, BigInt(count - 9) * 2n)).toEqual(shared);
    expect(readPage(dump, BigInt(count - 9) * 2n + 1n)).toBeUndefined();
  });

  it("says how much memory there is, in how many ranges", () => {
    const memory = (...segments: { gpa: bigint; bytes: Uint8Array }[]) =>
      openElf({ segments }).facts.find(({ label }) => label === "memory")!.value;
    const at = (gpa: bigint, size = 4096) => ({ gpa, bytes: page(1, size) });
    expect(memory(at(0x1000n))).toBe("4096 bytes in 1 range");
    expect(memory(at(0x1000n), at(0x2000n, 100), at(0x5000n))).toBe("8292 bytes in 2 ranges");
    expect(memory(at(0x5000n), at(0x1000n, 0x4000), at(0x2000n))).toBe("20480 bytes in 1 range");
  });

  it("reads RAM above 4 GiB and up to 2^52", () => {
    const dump = openElf({
      segments: [
        { gpa: 0x1_0000_0000n, bytes: page(1) },
        { gpa: (1n << 52n) - 4096n, bytes: page(2) },
      ],
    });
    expect(readPage(dump, 0x10_0000n)).toEqual(page(1));
    expect(readPage(dump, (1n << 40n) - 1n)).toEqual(page(2));
    expect(readPage(dump, 1n << 40n)).toBeUndefined();
  });
});

describe("segments and pages", () => {
  it("reads the part of p_memsz beyond p_filesz as zero", () => {
    const dump = openElf({ segments: [{ gpa: 0x1000n, bytes: page(9, 0x1800), memsz: 0x3000n }] });
    expect(readPage(dump, 1n)).toEqual(page(9));
    expect(readPage(dump, 2n)).toEqual(concat(page(9, 0x800), page(0, 0x800)));
    expect(readPage(dump, 3n)).toEqual(page(0));
    expect(readPage(dump, 4n)).toBeUndefined();
  });

  it("takes the part of p_memsz beyond p_filesz of a linear mapping as not in the dump where QEMU wrote it", () => {
    const segments = [{ gpa: 0x1000n, bytes: page(9), memsz: 0x3000n, vaddr: 0xffff_8880_0000_1000n }];
    const dump = openElf({ segments, notes: qemuNote({ cr0: 0n, cr3: 0n, cr4: 0n }) });
    expect(readPage(dump, 1n)).toEqual(page(9));
    expect(readPage(dump, 2n)).toBeUndefined();
    expect(dump.ranges).toEqual([{ gpa: 0x1000n, size: 0x1000n }]);
  });

  it.each([32, 64] as const)("takes a linear mapping with p_offset -1 as not in the dump (ELF%i)", (bits) => {
    const segments = [
      { gpa: 0x1000n, bytes: page(1) },
      { gpa: 0xfee0_0000n, offset: (1n << BigInt(bits)) - 1n, filesz: 0n, memsz: 0x1000n },
    ];
    const dump = openElf({ bits, segments });
    expect(readPage(dump, 0xfee00n)).toBeUndefined();
    expect(dump.ranges.length).toBe(1);
  });

  it("assembles a page from segments that start and end inside it, the rest zero", () => {
    const dump = openElf({
      segments: [
        { gpa: 0x1c00n, bytes: page(3, 0x400) },
        { gpa: 0x1000n, bytes: page(1, 0x500) },
        { gpa: 0x1500n, bytes: page(2, 0x100) },
      ],
    });
    expect(readPage(dump, 1n)).toEqual(concat(page(1, 0x500), page(2, 0x100), page(0, 0x600), page(3, 0x400)));
  });

  it("lets the first of overlapping segments win, whatever their order of address", () => {
    const dump = openElf({
      segments: [
        { gpa: 0x2000n, bytes: page(1, 0x1000) },
        { gpa: 0x1000n, bytes: page(2, 0x3000) },
        { gpa: 0x2800n, bytes: page(3, 0x2000) },
      ],
    });
    expect(readPage(dump, 1n)).toEqual(page(2));
    expect(readPage(dump, 2n)).toEqual(page(1));
    expect(readPage(dump, 3n)).toEqual(page(2));
    expect(readPage(dump, 4n)).toEqual(concat(page(3, 0x800), page(0, 0x800)));
    expect(dump.ranges).toEqual([{ gpa: 0x1000n, size: 0x3800n }]);
  });

  it("lets bytes of the file win over the declared zeros of an earlier segment", () => {
    const dump = openElf({
      segments: [
        { gpa: 0x1000n, memsz: 0x3000n },
        { gpa: 0x2000n, bytes: page(5) },
      ],
    });
    expect([1n, 2n, 3n].map((gfn) => readPage(dump, gfn)![0])).toEqual([0, 5, 0]);
  });

  it("takes the size from p_filesz where p_memsz is left out", () => {
    const dump = openElf({ segments: [{ gpa: 0x1000n, bytes: page(4), memsz: 0n }] });
    expect(readPage(dump, 1n)).toEqual(page(4));
  });

  it("says what it touches by the byte", () => {
    const dump = openElf({ segments: [{ gpa: 0x1800n, bytes: page(1, 0x100) }] });
    expect(dump.touches(0x1000n, 0x800n)).toBe(false);
    expect(dump.touches(0x1000n, 0x801n)).toBe(true);
    expect(dump.touches(0x1900n, 0x1000n)).toBe(false);
  });

  it.each([32, 64] as const)("passes over segments with only a linear address (ELF%i)", (bits) => {
    const dump = openElf({
      bits,
      segments: [
        { gpa: (1n << BigInt(bits)) - 1n, bytes: page(2) },
        { gpa: 0x1000n, bytes: page(1) },
      ],
    });
    expect(dump.ranges).toEqual([{ gpa: 0x1000n, size: 0x1000n }]);
  });
});

describe("notes", () => {
  it("are known by their whole name, with a description of any length before them", () => {
    const odd = (name: string, type: number, size: number) => note(name, type, new Uint8Array(size).fill(1));
    for (const size of [1, 2, 3, 4]) {
      const notes = concat(odd("X", 9, size), qemuNote({ cr3: 0x1000n }), odd("YY", 9, size), prstatusNote());
      expect(openElf({ notes }), `${size}`).toMatchObject({ cpus: [{ cr3: 0x1000n }], prstatusCount: 1 });
    }
    const others = concat(odd("QEMU2", 0, 440), odd("CORES", 1, 336), odd("VMCOREINFOS", 0, 8), odd("QEM", 0, 440));
    expect(openElf({ notes: others })).toMatchObject({ cpus: [], prstatusCount: 0, vmcoreinfo: undefined });
  });

  it("reads control registers and privilege of each processor", () => {
    const notes = concat(
      prstatusNote(),
      prstatusNote(),
      qemuNote({ cr0: 0x8005_0033n, cr2: 0x1234n, cr3: 0x1000n, cr4: 0x6f0n, rip: 0xffff_ffff_8000_0000n }),
      qemuNote({ cr3: 0x2000n, cs: 0x33 }),
      note("VMCOREINFO", 0, new TextEncoder().encode("OSRELEASE=6.1\n")),
    );
    const dump = openElf({ notes });
    expect(dump.prstatusCount).toBe(2);
    expect(dump.cpus[0]).toMatchObject({
      index: 0,
      cr0: 0x8005_0033n,
      cr2: 0x1234n,
      cr3: 0x1000n,
      cr4: 0x6f0n,
      cpl: 0,
    });
    expect(dump.cpus[0]!.rip).toBe(0xffff_ffff_8000_0000n);
    expect(dump.cpus[1]).toMatchObject({ index: 1, cr3: 0x2000n, cpl: 3 });
    expect(dump.vmcoreinfo).toBe("OSRELEASE=6.1\n");
  });

  it("reads the shorter state of older versions and passes over zero padding", () => {
    const dump = openElf({ notes: concat(qemuNote({ cr3: 0x7000n }, 1, 432), new Uint8Array(20)) });
    expect(dump.cpus.map((cpu) => cpu.cr3)).toEqual([0x7000n]);
  });
});

describe("what is refused", () => {
  const good = elfCore({ notes: qemuNote({}), segments: [{ gpa: 0x1000n, bytes: page(1) }] });
  const patched = (at: number, value: number) => {
    const bytes = good.slice();
    bytes[at] = value;
    return bytes;
  };
  const patched64 = (at: number, value: bigint) => {
    const bytes = good.slice();
    new DataView(bytes.buffer).setBigUint64(at, value, true);
    return bytes;
  };
  const noteHeader = 64 + 0;
  it.each<[string, Uint8Array, number | undefined, RegExp]>([
    ["an empty file", new Uint8Array(0), 0, /empty file/],
    ["a truncated identification", good.subarray(0, 10), 0, /expected an ELF header/],
    ["a truncated header", good.subarray(0, 40), 0, /expected an ELF64 header \(64 bytes\)/],
    ["something else", new TextEncoder().encode("#!/bin/sh\n"), 0, /expected an ELF core.*found 23 21 2f/],
    [
      "the start of a flattened file",
      new TextEncoder().encode("makedumpfile\0\0\0\0"),
      0,
      /header of a flattened file/,
    ],
    ["the start of a kdump", new TextEncoder().encode("KDUMP   \0\0\0\0"), 0, /a kdump header \(464 bytes\)/],
    ["an old compressed kdump", new TextEncoder().encode("DISKDUMP\0\0\0\0"), 0, /an old diskdump .*not read/],
    ["an unknown class", patched(4, 3), 4, /ELF class 1 .* or 2 .*found 3/],
    ["big endian", patched(5, 2), 5, /little endian\), found 2/],
    ["an executable", patched(16, 2), 16, /type 4 \(core file\), found 2/],
    ["another machine", patched(18, 183), 18, /machine 62 .* found 183/],
    ["no program headers", patched(56, 0), 56, /expected program headers, found none/],
    ["a small e_phentsize", patched(54, 32), 54, /56 bytes or more, found e_phentsize 32/],
    [
      "program headers beyond the file",
      patched64(32, 0x10_0000n),
      0x10_0000,
      /program headers of 56 bytes, but the file ends/,
    ],
    ["program headers at 2^64-8", patched64(32, (1n << 64n) - 8n), 2 ** 64, /but the file ends/],
    [
      "a file that ends before its only segment",
      patched64(64 + 56 + 8, (1n << 64n) - 4096n),
      64,
      /all of them lie behind/,
    ],
    ["p_filesz above p_memsz", patched64(64 + 56 + 40, 0x10n), 64 + 56, /p_filesz of at most p_memsz/],
    ["addresses above 2^52", patched64(64 + 56 + 24, 1n << 52n), 64 + 56, /below 2\^52/],
    ["a note that does not fit", elfCore({ notes: qemuNote({}).subarray(0, 400) }), noteHeader + 56 * 2, /broken note/],
    [
      "a note header that is cut off",
      elfCore({ notes: concat(prstatusNote(), Uint8Array.of(1, 2, 3, 4)) }),
      undefined,
      /broken note: expected a note header/,
    ],
    ["another version of QEMU's note", elfCore({ notes: qemuNote({}, 2) }), undefined, /version 1, found 2/],
    [
      "a QEMU note that is too small",
      elfCore({ notes: qemuNote({}, 1, 400) }),
      undefined,
      /432 to 400 bytes, found 400/,
    ],
    [
      "a QEMU note that declares more than it has",
      elfCore({ notes: qemuNote({}, 1, 440, 500) }),
      undefined,
      /found 500/,
    ],
    ["no memory", elfCore({ segments: [{ gpa: 0n }] }), undefined, /expected memory segments/],
    [
      "a process core",
      elfCore({ segments: [1n, 2n].map((n) => ({ gpa: 0n, vaddr: n << 12n, bytes: page(1) })) }),
      undefined,
      /core of a process/,
    ],
  ])("%s", (_, bytes, offset, message) => {
    let error: unknown;
    try {
      open(bytes);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(DumpError);
    const dumpError = error as DumpError;
    expect(dumpError.message).toMatch(message);
    expect(dumpError.message).toMatch(/^test\.elf: /);
    expect(dumpError.message).not.toContain("\n");
    expect(dumpError.file).toBe("test.elf");
    if (offset !== undefined) expect(dumpError.offset).toBe(offset);
  });

  it("PN_XNUM without section headers", () => {
    const bytes = elfCore({ xnum: true });
    new DataView(bytes.buffer).setBigUint64(40, 0n, true);
    expect(() => open(bytes)).toThrow(/PN_XNUM.*no section headers/);
  });

  it("PN_XNUM with section header 0 beyond the file", () => {
    const bytes = elfCore({ xnum: true });
    new DataView(bytes.buffer).setBigUint64(40, 1n << 40n, true);
    expect(() => open(bytes)).toThrow(/section header 0.*file ends/);
  });

  it("every truncation of a good file", () => {
    // The page begins behind the headers and the note; without all of it there is none.
    for (let length = 0; length < good.length; length += 7) {
      expect(() => open(good.subarray(0, length)), `${length} bytes`).toThrow(DumpError);
    }
  });
});

describe("a file that breaks off", () => {
  const segments = [
    { gpa: 0x1000n, bytes: page(1, 0x3000) },
    { gpa: 0x8000n, bytes: page(2) },
  ];
  const whole = elfCore({ notes: qemuNote({ cr3: 0x1000n }), segments });
  const end = whole.length;

  it("has the pages that are there whole, and says which are not", () => {
    const dump = open(whole.subarray(0, end - 0x1000 - 0x1800));
    expect(readPage(dump, 1n)).toEqual(page(1));
    expect([2n, 3n, 8n].map((gfn) => readPage(dump, gfn))).toEqual([undefined, undefined, undefined]);
    expect(dump.ranges).toEqual([{ gpa: 0x1000n, size: 0x1000n }]);
    expect(dump.memory.lackingRanges("cut")).toEqual([
      { gpa: 0x2000n, size: 0x2000n },
      { gpa: 0x8000n, size: 0x1000n },
    ]);
    expect([0x1000n, 0x2000n, 0x8000n, 0x9000n].map((gpa) => dump.presence(gpa, 0x1000n))).toEqual([
      ...["held", "cut", "cut", "absent"],
    ]);
    expect(dump.warnings).toEqual([
      expect.stringMatching(
        /^the file breaks off at 0x\w+: 12288 bytes of memory in 2 ranges, from 0x2000 on, are not there$/,
      ),
    ]);
    expect(dump.cpus.map(({ cr3 }) => cr3)).toEqual([0x1000n]);
    expect(open(whole).warnings).toEqual([]);
  });

  it("may have lost its notes", () => {
    const core = elfCore({ notes: qemuNote({ cr3: 0x1000n }), segments: [{ gpa: 0x1000n, bytes: page(1) }] });
    new DataView(core.buffer).setBigUint64(64 + 32, 0x10_0000n, true);
    const dump = open(core);
    expect(dump.cpus).toEqual([]);
    expect(dump.warnings).toEqual([expect.stringMatching(/^the notes at 0x\w+ are not in the file/)]);
    expect(readPage(dump, 1n)).toEqual(page(1));
  });
});

describe("what makedumpfile -E leaves out", () => {
  const segments = [
    { gpa: 0x1000n, vaddr: 0x1000n, bytes: page(9), memsz: 0x3000n },
    { gpa: 0x4000n, vaddr: 0x4000n, bytes: page(8) },
  ];
  const vmcoreinfo = note("VMCOREINFO", 0, new TextEncoder().encode("OSRELEASE=6.1\n"));
  const states = (dump: ReturnType<typeof open>) => [1n, 2n, 3n, 4n, 5n].map((gfn) => dump.presence(gfn << 12n, 4096n));

  it("is zero where it can filter by nothing else: QEMU's notes, no VMCOREINFO", () => {
    const dump = openElf({ notes: qemuNote({ cr3: 0x1000n }), segments });
    expect(readPage(dump, 2n)).toEqual(page(0));
    expect(states(dump)).toEqual(["held", "held", "held", "held", "absent"]);
  });

  it.each([
    ["QEMU's notes", concat(qemuNote({ cr3: 0x1000n }), vmcoreinfo)],
    ["a crash kernel's notes", concat(prstatusNote(), vmcoreinfo)],
  ])("is unknown where it can filter by kind of page: %s with VMCOREINFO", (_, notes) => {
    const dump = openElf({ notes, segments });
    expect(readPage(dump, 2n)).toBeUndefined();
    expect(states(dump)).toEqual(["held", "excluded", "excluded", "held", "absent"]);
    expect(dump.memory.lacking.excluded).toEqual({ bytes: 0x2000, ranges: 1 });
    expect(dump.facts).toContainEqual({
      label: "excluded",
      value: expect.stringMatching(/8192 bytes in 1 range: .*unknown/),
    });
    const into = page(0xee);
    expect(dump.tableSource.readPage(2n, into)).toBe(true);
    expect(into).toEqual(page(0));
    expect(dump.tableSource.readPage(5n, into)).toBe(false);
  });

  it("is zero where the user says so", () => {
    const dump = openDump(new MemoryByteSource(elfCore({ notes: vmcoreinfo, segments })), { zeroExcluded: true });
    expect(readPage(dump, 2n)).toEqual(page(0));
  });
});
