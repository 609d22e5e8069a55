/** VirtualBox's cores. */
import { describe, expect, it } from "vitest";
import { DumpError, MemoryByteSource, openDump, registersFromDump } from "../../src/dump/index.js";
import { concat, elfCore, page } from "./builders.js";
import { vboxCoreNote, vboxCpuNote } from "./writers/vbox.js";

const segments = [
  { gpa: 0n, bytes: page(1, 0x8000) },
  { gpa: 1n << 32n, bytes: page(2, 0x2000) },
];
const open = (notes: Uint8Array, machine = 62) =>
  openDump(new MemoryByteSource(elfCore({ segments, notes, machine }), "vm.core"));

describe("VirtualBox's cores", () => {
  it("have control registers and EFER of every processor", () => {
    const cpus = [
      vboxCpuNote({
        cr0: 0x8001_0033n,
        cr2: 0x77n,
        cr3: 0x1000n,
        cr4: 0x6a0n,
        efer: 0x501n,
        rip: 0x1234n,
        rflags: 0x246n,
      }),
      vboxCpuNote({ cr3: 0x2000n, cs: 0x33 }),
    ];
    const dump = open(concat(vboxCoreNote(2), ...cpus));
    expect(dump.format).toBe("elf");
    expect(dump.warnings).toEqual([]);
    expect(dump.facts).toContainEqual({ label: "writer", value: "VirtualBox 7.0.12" });
    expect(dump.cpus).toEqual([
      {
        ...{ index: 0, origin: "note VBCPU", cr0: 0x8001_0033n, cr2: 0x77n, cr3: 0x1000n, cr4: 0x6a0n, efer: 0x501n },
        ...{ rip: 0x1234n, rflags: 0x246n, cpl: 0 },
      },
      expect.objectContaining({ index: 1, cr3: 0x2000n, efer: 0xd01n, cpl: 3 }),
    ]);
    const registers = registersFromDump(dump);
    expect(registers).toMatchObject({ cr0: 0x8001_0033n, cr3: 0x1000n, cr4: 0x6a0n, efer: 0x501n });
    expect(registers.origin.efer).toBe("note VBCPU cpu 0");
    expect(registersFromDump(dump, { cpu: 1 }).origin.cr3).toBe("note VBCPU cpu 1");
    expect(registersFromDump(dump, { efer: 0xd00n })).toMatchObject({ efer: 0xd00n, origin: { efer: "given" } });
    const into = page(0);
    expect(dump.pageSource.readPage(0x10_0001n, into)).toBe(true);
    expect(into).toEqual(page(2));
    expect(dump.pageSource.readPage(0x10_0002n, into)).toBe(false);
  });

  it("are of any mode whatever the ELF machine is", () => {
    const pae = open(concat(vboxCoreNote(1), vboxCpuNote({ cr3: 0x1000n, cr4: 0x20n, efer: 0x800n })));
    expect(pae.machine).toBe("x86_64");
    expect(pae.longMode).toEqual({ active: false, reason: "note VBCPU has EFER 0x800, so LMA=0" });
    expect(registersFromDump(pae).efer).toBe(0x800n);
    const long = open(concat(vboxCoreNote(1), vboxCpuNote({ cr3: 0x1000n })), 3);
    expect(long.longMode?.active).toBe(true);
    expect(registersFromDump(long).efer).toBe(0xd01n);
  });

  it("whose notes do not fit together are opened with a warning", () => {
    expect(open(concat(vboxCoreNote(4), vboxCpuNote({}))).warnings).toEqual([
      "VirtualBox says that there are 4 processors, and there are notes of 1",
    ]);
    expect(open(concat(vboxCoreNote(1, { format: 0x10003 }), vboxCpuNote({}))).warnings).toEqual([
      "its VirtualBox core format is 0x10003, and registers are read as 0x10006 has them",
    ]);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ["another magic", vboxCoreNote(1, { magic: 0xc01ac0df }), /core magic 0xc01ac0de, found 0xc01ac0df/],
    ["another major version", vboxCoreNote(1, { format: 0x20000 }), /core format 1, found 0x20000/],
    ["a processor without EFER", concat(vboxCoreNote(1), vboxCpuNote({}, 488)), /496 bytes or more, found 488/],
  ])("are refused with %s", (_, notes, message) => {
    expect(() => open(notes)).toThrow(DumpError);
    expect(() => open(notes)).toThrow(message);
  });

  it("that break off have what is there", () => {
    const whole = elfCore({ segments, notes: concat(vboxCoreNote(1), vboxCpuNote({ cr3: 0x1000n })) });
    const dump = openDump(new MemoryByteSource(whole.subarray(0, whole.length - 1), "vm.core"));
    expect(dump.presence((1n << 32n) + 0x1000n, 1n)).toBe("cut");
    expect(dump.warnings).toEqual([expect.stringMatching(/the file breaks off/)]);
  });
});
