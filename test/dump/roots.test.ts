/** Where the tables are when no register says it: VMCOREINFO in a note or in RAM, and what tables look like. */
import { describe, expect, it } from "vitest";
import {
  kernelRoot,
  MemoryByteSource,
  openDump,
  openDumpFile,
  registersFromDump,
  UnknownRootError,
  VmcoreinfoScan,
} from "../../src/dump/node.js";
import { inspectRoot } from "../../src/dump/root-inspection.js";
import { concat, elfCore, limeRange, note, page, prstatusNote, table32, table64 } from "./builders.js";

const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
const text = (more: string) => `OSRELEASE=6.1.0\nPAGESIZE=4096\n${more}`;
const bytes = (value: string) => new TextEncoder().encode(value);

/** RAM from 0 on with the tables of a kernel at 0x5000, which map themselves at `va`, and `extra` pages. */
function kernelRam(va: bigint, extra: Record<number, Uint8Array>, encryption = 0n): Uint8Array {
  const index = (level: number) => Number((va >> BigInt(12 + 9 * (level - 1))) % 512n);
  const entry = (frame: number) => (BigInt(frame) << 12n) | 0x63n | encryption;
  const pages: Record<number, Uint8Array> = {
    5: table64({ [index(4)]: entry(6) }),
    6: table64({ [index(3)]: entry(7) }),
    7: table64({ [index(2)]: entry(8) }),
    8: table64({ [index(1)]: entry(5) }),
    ...extra,
  };
  const ram = new Uint8Array(0x40000);
  for (const [frame, content] of Object.entries(pages)) ram.set(content, Number(frame) * 4096);
  return ram;
}

const lime = (ram: Uint8Array) => openDump(new MemoryByteSource(limeRange(0n, ram), "ram.lime"));

function search(dump: ReturnType<typeof lime>, step = 7) {
  const scan = new VmcoreinfoScan(dump);
  for (;;) {
    const { found, finished } = scan.step(step);
    if (finished) return found;
  }
}

describe("VMCOREINFO", () => {
  const pgd = START_KERNEL_MAP + 0x205_000n;
  const info = text(`SYMBOL(swapper_pg_dir)=${pgd.toString(16)}\nNUMBER(phys_base)=-2097152\n`);

  it("says where x86-64's tables are, by either name of them", () => {
    expect(kernelRoot(info)).toEqual({
      ...{ bits: 64, cr3: 0x5000n, va: pgd, pae: true, fiveLevel: false, encryptionMask: 0n },
    });
    expect(kernelRoot(info.replace("swapper_pg_dir", "init_top_pgt"))?.cr3).toBe(0x5000n);
    expect(kernelRoot(`${info}NUMBER(pgtable_l5_enabled)=1\n`)?.fiveLevel).toBe(true);
    expect(kernelRoot(`${info}NUMBER(sme_mask)=140737488355328\n`)?.encryptionMask).toBe(1n << 47n);
    expect(kernelRoot(info.replace(/NUMBER.*/, ""))).toBeUndefined();
    expect(kernelRoot("OSRELEASE=6.1\n")).toBeUndefined();
  });

  it("says where i386's tables are", () => {
    const narrow = text("SYMBOL(swapper_pg_dir)=c1a05000\n");
    expect(kernelRoot(narrow)).toMatchObject({ bits: 32, cr3: 0x1a0_5000n, pae: false });
    expect(kernelRoot(`${narrow}CONFIG_X86_PAE=y\n`)).toMatchObject({ pae: true });
    const notes = concat(prstatusNote(3), note("VMCOREINFO", 0, bytes(narrow)));
    const dump = openDump(
      new MemoryByteSource(elfCore({ machine: 3, notes, segments: [{ gpa: 0x1a0_5000n, bytes: page(0) }] })),
    );
    expect(registersFromDump(dump)).toMatchObject({ cr3: 0x1a0_5000n, cr4: 0x10n, efer: 0n });
  });

  it("is found in RAM where a page of it names tables that map themselves", () => {
    const dump = lime(kernelRam(pgd, { 34: concat(bytes(info), new Uint8Array(100)) }));
    expect(() => registersFromDump(dump)).toThrow(UnknownRootError);
    const vmcoreinfo = search(dump)!;
    expect(vmcoreinfo).toEqual({ text: info, gpa: 0x2_2000n });
    const registers = registersFromDump(dump, { vmcoreinfo });
    expect(registers).toMatchObject({ cr3: 0x5000n, cr4: 0x20n, efer: 0xd00n });
    expect(registers.origin.cr3).toBe("inferred: VMCOREINFO in RAM at 0x22000, swapper_pg_dir (kernel tables)");
    expect(registers.origin.efer).toMatch(/^inferred: VMCOREINFO in RAM at 0x22000 is of x86-64, so LMA=1/);
  });

  it("is not taken from a copy, or from an older kernel, whose tables are not there", () => {
    const other = info.replace(pgd.toString(16), (pgd + 0x1000n).toString(16));
    expect(search(lime(kernelRam(pgd, { 34: bytes(other) })))).toBeUndefined();
    const both = kernelRam(pgd, { 33: bytes(other), 63: bytes(info) });
    expect(search(lime(both), 1)?.gpa).toBe(0x3_f000n);
    const inside = concat(page(1, 8), bytes(info));
    expect(search(lime(kernelRam(pgd, { 34: inside })))).toBeUndefined();
  });

  it("says which bit of entries is encryption's", () => {
    const mask = 1n << 47n;
    const sme = `${info}NUMBER(sme_mask)=${mask}\n`;
    const dump = lime(kernelRam(pgd, { 34: bytes(sme) }, mask));
    const registers = registersFromDump(dump, { vmcoreinfo: search(dump) });
    expect(registers.encryptionMask).toBe(mask);
    expect(registers.origin.encryptionMask).toMatch(/^inferred: VMCOREINFO .*sme_mask$/);
    expect(registersFromDump(dump, { cr3: 0x5000n, encryptionMask: 1n << 51n }).encryptionMask).toBe(1n << 51n);
  });
});

describe("the mode of given tables", () => {
  const MODES = [
    ["amd64-la57", "5level"],
    ["amd64-4l", "4level"],
    ["amd64-1g", "4level"],
    ["i386-pae", "pae"],
    ["i386-nopae", "32bit"],
  ] as const;
  it.each(MODES)("is seen in those of real guests: %s", async (name, mode) => {
    const dump = await openDumpFile(new URL(`../fixtures/dumps/${name}/pt.elf.gz`, import.meta.url).pathname);
    const { cr3 } = dump.cpus[0]!;
    expect(inspectRoot(dump.tableSource, cr3, (gpa) => dump.presence(gpa, 4096n))).toBe(mode);
    dump.close();
  });

  it("is not seen in pages without mappings, or of noise", () => {
    const noise = Uint8Array.from({ length: 0x8000 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 23);
    for (const ram of [new Uint8Array(0x8000), noise]) {
      const dump = lime(ram);
      expect(inspectRoot(dump.tableSource, 0x1000n, (gpa) => dump.presence(gpa, 4096n))).toBeUndefined();
      expect(registersFromDump(dump, { cr3: 0x1000n }).origin.cr4).toBe("assumed: 4-level paging");
    }
  });

  it("is left open where tables are cut off that would decide", () => {
    const ram = concat(table64({ 0: 0x2007n }), table64({ 0: 0x3007n }), table64({ 0: 0x4007n }), page(0));
    const cut = limeRange(0x1000n, ram);
    const dump = openDump(new MemoryByteSource(cut.subarray(0, cut.length - 1), "cut.lime"));
    expect(inspectRoot(dump.tableSource, 0x1000n, (gpa) => dump.presence(gpa, 4096n))).toBeUndefined();
    expect(registersFromDump(dump, { cr3: 0x1000n }).origin.cr4).toBe("assumed: 4-level paging");
  });

  it("is one of those that CR4 leaves open", () => {
    const ram = concat(table64({ 0: 0x2001n }), table64({ 0: 0x3007n }), table64({ 0: 0x10_0007n }), page(0));
    const dump = openDump(new MemoryByteSource(limeRange(0x1000n, ram), "pae.lime"));
    expect(registersFromDump(dump, { cr3: 0x1000n, cr4: 0x20n })).toMatchObject({ efer: 0x800n });
    expect(registersFromDump(dump, { cr3: 0x1000n, cr4: 0x10n })).toMatchObject({ efer: 0n });
  });

  it("is not what a machine's name says, but in QEMU's files", () => {
    const tables = [
      { gpa: 0x1000n, bytes: table32({ 0: 0x2007, 768: 0x83 }) },
      { gpa: 0x2000n, bytes: table32({ 1: 0x1007, 2: 0x3003 }) },
      { gpa: 0x3000n, bytes: page(0) },
    ];
    const dump = openDump(new MemoryByteSource(elfCore({ machine: 62, segments: tables })));
    expect(dump.longMode).toBeUndefined();
    const registers = registersFromDump(dump, { cr3: 0x1000n });
    expect(registers).toMatchObject({ cr4: 0x10n, efer: 0n });
    expect(registers.origin.cr4).toBe("inferred: the tables look like 32-bit paging");
  });
});
