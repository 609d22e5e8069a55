/** Registers of a dump: from its notes, inferred or given. */
import { describe, expect, it } from "vitest";
import { DumpError, MemoryByteSource, openDump, registersFromDump } from "../../src/dump/index.js";
import { concat, elfCore, limeRange, note, page, qemuNote } from "./builders.js";

const memory = [{ gpa: 0x1000n, bytes: page(1, 0x8000) }];
const open = (notes: Uint8Array | undefined, machine = 62) =>
  openDump(new MemoryByteSource(elfCore({ segments: memory, machine, ...(notes && { notes }) }), "test.elf"));

describe("registers", () => {
  it("come from the first processor's note, or the one asked for", () => {
    const dump = open(concat(qemuNote({ cr3: 0x1000n, cr4: 0x6f0n }), qemuNote({ cr3: 0x2000n, cr4: 0x16f0n })));
    expect(registersFromDump(dump)).toMatchObject({ cr0: 0x8005_0033n, cr3: 0x1000n, cr4: 0x6f0n, maxPhysAddr: 52 });
    const second = registersFromDump(dump, { cpu: 1 });
    expect(second).toMatchObject({ cr3: 0x2000n, cr4: 0x16f0n });
    expect(second.origin).toMatchObject({ cr0: "note QEMU cpu 1", cr3: "note QEMU cpu 1", cr4: "note QEMU cpu 1" });
    expect(() => registersFromDump(dump, { cpu: 2 })).toThrow(/note of processor 2, found notes of 2/);
  });

  it.each([
    ["x86-64 in long mode", 62, 0x8000_0001n, 0x20n, 0xd00n, /machine is x86-64, so LMA=1; NXE assumed/],
    ["i386 with PAE", 3, 0x8000_0001n, 0x20n, 0x800n, /machine is i386, so LMA=0; NXE assumed/],
    ["i386 without PAE", 3, 0x8000_0001n, 0x10n, 0n, /neither long mode nor NX/],
    ["paging off", 62, 0x1n, 0x20n, 0n, /neither long mode nor NX/],
  ])("EFER of %s is inferred and said to be", (_, machine, cr0, cr4, efer, origin) => {
    const registers = registersFromDump(open(qemuNote({ cr0, cr3: 0x1000n, cr4 }), machine));
    expect(registers.efer).toBe(efer);
    expect(registers.origin.efer).toMatch(origin);
    expect(registers.origin.maxPhysAddr).toMatch(/^assumed/);
  });

  it("that are given win, each by itself", () => {
    const dump = open(qemuNote({ cr3: 0x1000n }));
    const registers = registersFromDump(dump, { cr3: 0x3000n, efer: 0x500n, maxPhysAddr: 40 });
    expect(registers).toMatchObject({ cr0: 0x8005_0033n, cr3: 0x3000n, efer: 0x500n, maxPhysAddr: 40 });
    expect(registers.origin).toEqual({
      cr0: "note QEMU cpu 0",
      cr3: "given",
      cr4: "note QEMU cpu 0",
      efer: "given",
      maxPhysAddr: "given",
      encryptionMask: "assumed: no memory encryption",
    });
  });

  it("of an x86-64 kdump are inferred from VMCOREINFO", () => {
    const text = "SYMBOL(swapper_pg_dir)=ffffffff81c05000\nNUMBER(phys_base)=-29360128\nNUMBER(pgtable_l5_enabled)=1\n";
    const dump = open(note("VMCOREINFO", 0, new TextEncoder().encode(text)));
    const registers = registersFromDump(dump);
    expect(registers.cr3).toBe(0x5000n);
    expect(registers.cr4).toBe(0x1020n);
    expect(registers.origin.cr3).toMatch(/inferred: VMCOREINFO/);
  });

  it("need a CR3", () => {
    expect(() => registersFromDump(open(undefined))).toThrow(/expected a note with CR3, found none/);
    const lime = openDump(new MemoryByteSource(limeRange(0x1000n, page(0)), "test.lime"));
    expect(() => registersFromDump(lime)).toThrow(DumpError);
    const registers = registersFromDump(lime, { cr3: 0x1000n });
    expect(registers).toMatchObject({ cr0: 0x8001_0001n, cr4: 0x20n, efer: 0xd00n });
    expect(registers.origin.cr4).toMatch(/^assumed/);
  });

  it.each([
    ["4-level", 0x9000n, 0x20n, 62],
    ["PAE", 0x9fe0n, 0x20n, 3],
    ["32-bit", 0x9000n, 0x10n, 3],
  ])("with a CR3 outside the dump are refused (%s)", (_, cr3, cr4, machine) => {
    const dump = open(qemuNote({ cr3, cr4 }), machine);
    expect(() => registersFromDump(dump)).toThrow(
      new RegExp(`^test\\.elf: CR3 0x${cr3.toString(16)} .*root table at 0x${cr3.toString(16)}, .*not in the dump`),
    );
  });

  it("with paging off need no root table", () => {
    expect(registersFromDump(open(qemuNote({ cr0: 0x10n, cr3: 0x9000n }))).cr3).toBe(0x9000n);
  });

  it("of PAE paging have a CR3 of 32 bits, of which bits 31:5 name the table", () => {
    const dump = open(qemuNote({ cr3: 0x5_0000_1fffn, cr4: 0x20n }), 3);
    expect(registersFromDump(dump).cr3).toBe(0x5_0000_1fffn);
  });

  it("keep CR3's flags, PCID and LAM bits out of the root's address", () => {
    const cr3 = 0x6000_0000_0000_8fffn;
    expect(registersFromDump(open(qemuNote({ cr3, cr4: 0x2_0020n }))).cr3).toBe(cr3);
  });
});
