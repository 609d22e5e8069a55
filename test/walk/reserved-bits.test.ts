/** Must-be-zero bits of entries and of CR3. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { GeneralProtectionError } from "../../src/errors.js";
import {
  CR0,
  CR4,
  chain,
  EFER,
  engine,
  errorCode,
  fault,
  longMode,
  machine,
  mapped,
  P,
  PD,
  PDPT,
  PML4,
  PML5,
  PS,
  PT,
  ram,
  U,
  W,
  XD,
} from "./build.js";

const RSVD = 9;
const bit = (n: number) => 1n << BigInt(n);

/** The error code of a supervisor read of 0 with `bits` added to the entry at `table`; 0 where it succeeds. */
function withBits(table: bigint, bits: bigint, changes: Partial<AddressSpaceConfig> = {}): number {
  const { space } = machine(changes, (memory) => memory.writeU64(table, memory.readU64(table) | bits));
  const result = space.translate(0);
  return result.ok ? 0 : Number(result.errorCode);
}

describe('SDM "4-Level Paging": in a present entry', () => {
  it.each([PML4, PDPT, PD, PT])("bits 51:MAXPHYADDR of the entry at %# are reserved, 62:52 are not", (table) => {
    for (let n = 40; n <= 51; n++) expect(withBits(table, bit(n), { maxPhysAddr: 40 }), `bit ${n}`).toBe(RSVD);
    for (let n = 52; n <= 62; n++) expect(withBits(table, bit(n), { maxPhysAddr: 40 }), `bit ${n}`).toBe(0);
  });

  it("the limit moves with every MAXPHYADDR", () => {
    for (let max = 32; max <= 51; max++) {
      expect(withBits(PT, bit(max), { maxPhysAddr: max }), `${max}`).toBe(RSVD);
      expect(withBits(PT, bit(max - 1), { maxPhysAddr: max }), `${max}`).toBe(0);
    }
    expect(withBits(PT, bit(51), { maxPhysAddr: 52 })).toBe(0);
  });

  it.each([PML4, PDPT, PD, PT])("XD of the entry at %# is reserved while NXE is 0", (table) => {
    expect(withBits(table, XD, { efer: EFER.long })).toBe(RSVD);
    expect(withBits(table, XD)).toBe(0);
  });

  it("PS is reserved in a PML4E and a PML5E", () => {
    expect(withBits(PML4, PS)).toBe(RSVD);
    const la57 = { cr4: CR4.pae | CR4.la57, cr3: PML5 };
    expect(withBits(PML5, PS, la57)).toBe(RSVD);
    expect(withBits(PML4, PS, la57)).toBe(RSVD);
    expect(withBits(PML5, 0n, la57)).toBe(0);
  });

  it("PS in a PDPTE is reserved without 1 GiB pages", () => {
    const edit = (memory: { writeU64(gpa: bigint, value: bigint): void }) => memory.writeU64(PDPT, bit(30) | P | PS);
    expect(mapped(machine({}, edit).space.translate(0x123)).pa).toBe(bit(30) | 0x123n);
    expect(errorCode(machine({ cpu: { page1g: false } }, edit).space.translate(0))).toBe(RSVD);
  });

  it("bits 29:13 of a 1 GiB page and 20:13 of a 2 MiB page are reserved, bit 12 is PAT", () => {
    for (const [table, first, size] of [
      [PDPT, 29, 1 << 30],
      [PD, 20, 1 << 21],
    ] as const) {
      for (let n = 12; n <= first + 1; n++) {
        const { space } = machine({}, (memory) => memory.writeU64(table, P | PS | bit(n)));
        const result = space.translate(0);
        if (n === 12) expect(mapped(result)).toMatchObject({ pa: 0n, pageSize: size, memoryType: 4 });
        else if (n <= first) expect(errorCode(result), `bit ${n}`).toBe(RSVD);
        else expect(mapped(result).pa).toBe(bit(n));
      }
    }
  });

  it("bit 8 of a PML4E and PML5E is reserved by its own switch only", () => {
    const la57 = { cr4: CR4.pae | CR4.la57, cr3: PML5 };
    for (const rules of ["architecture", "kvm-6.1"] as const) {
      expect(withBits(PML4, bit(8), { rules })).toBe(0);
      expect(withBits(PML4, bit(8), { rules, cpu: { amdReservedBit8: true } })).toBe(RSVD);
      expect(withBits(PML5, bit(8), { ...la57, rules, cpu: { amdReservedBit8: true } })).toBe(RSVD);
      expect(withBits(PDPT, bit(8), { rules, cpu: { amdReservedBit8: true } })).toBe(0);
    }
  });

  it("nothing is reserved where P is 0", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PD, ~P & ((1n << 64n) - 1n)));
    expect(errorCode(space.translate(0, Access.Write | Access.User))).toBe(6);
  });

  it("reserved bits win over rights, and report no key", () => {
    const { space } = machine({ maxPhysAddr: 40, cr4: CR4.pae | CR4.pke, pkru: 1 }, (memory) =>
      memory.writeU64(PT, P | bit(45)),
    );
    expect(errorCode(space.translate(0, Access.Write | Access.User))).toBe(0xf);
  });

  it("a lenient space reserves nothing and lets XD count", () => {
    const all = bit(45) | PS;
    expect(withBits(PML4, all, { maxPhysAddr: 40, lenient: true, efer: EFER.long })).toBe(0);
    const { space } = machine({ lenient: true, efer: EFER.long }, (memory) => memory.writeU64(PT, XD | P | U));
    expect(mapped(space.translate(0)).rights.execute).toBe(false);
    expect(errorCode(space.translate(0, Access.Fetch | Access.User))).toBe(5);
  });
});

describe('SDM "32-Bit Paging"', () => {
  const config = (changes: Partial<AddressSpaceConfig> = {}): AddressSpaceConfig =>
    longMode({ cr3: 0x1000n, cr4: CR4.pse, efer: 0n, ...changes });

  function large(pde: number, changes: Partial<AddressSpaceConfig> = {}) {
    const memory = ram();
    memory.writeU32(0x1000, pde);
    return engine.createAddressSpace(memory, config(changes)).translate(0x3ff123);
  }

  /** Which of bits 21:13 are reserved in a 4 MiB page. */
  const reserved = (changes: Partial<AddressSpaceConfig>) =>
    [13, 14, 15, 16, 17, 18, 19, 20, 21].filter((n) => !large(0x83 | (2 ** n), changes).ok);

  it("a 4 MiB page reserves bit 21 and the PSE-36 bits above MAXPHYADDR", () => {
    expect(reserved({ maxPhysAddr: 52 })).toEqual([21]);
    expect(reserved({ maxPhysAddr: 40 })).toEqual([21]);
    expect(reserved({ maxPhysAddr: 39 })).toEqual([20, 21]);
    expect(reserved({ maxPhysAddr: 36 })).toEqual([17, 18, 19, 20, 21]);
    expect(reserved({ maxPhysAddr: 32 })).toEqual([13, 14, 15, 16, 17, 18, 19, 20, 21]);
    expect(reserved({ cpu: { pse36: false } })).toEqual([13, 14, 15, 16, 17, 18, 19, 20, 21]);
  });

  it("KVM's PSE-36 is 36 bits whatever MAXPHYADDR", () => {
    for (const maxPhysAddr of [32, 36, 40, 52]) {
      expect(reserved({ maxPhysAddr, rules: "kvm-6.1" })).toEqual([17, 18, 19, 20, 21]);
    }
  });

  it("PSE-36 bits 20:13 are address bits 39:32", () => {
    expect(mapped(large(0x400083 | (0xa5 << 13))).pa).toBe(0xa5007ff123n);
    expect(mapped(large(0x400083 | (0x5 << 13), { rules: "kvm-6.1", maxPhysAddr: 32 })).pa).toBe(0x5007ff123n);
  });

  it("bit 7 of a PDE is ignored while PSE is 0, and PSE is ignored while PAE is 1", () => {
    const memory = ram();
    memory.writeU32(0x1000, 0x2083 | (1 << 13));
    memory.writeU32(0x2000 + 4 * 0x3ff, 0x5003);
    const result = engine.createAddressSpace(memory, config({ cr4: 0n })).translate(0x3ff123);
    expect(mapped(result)).toMatchObject({ pa: 0x5123n, pageSize: 4096 });
    const { space } = machine({ cr4: CR4.pae | CR4.pse });
    expect(mapped(space.translate(0x123)).pa).toBe(0x5123n);
  });

  it("NXE means nothing: 4-byte entries have no XD", () => {
    expect(mapped(large(0x87, { efer: EFER.nxe })).rights.execute).toBe(true);
  });
});

describe('SDM "PAE Paging" and "PDPTE Registers"', () => {
  const config = (changes: Partial<AddressSpaceConfig> = {}): AddressSpaceConfig =>
    longMode({ cr3: PDPT, efer: EFER.nxe, maxPhysAddr: 40, ...changes });

  function pae(edit: (memory: ReturnType<typeof ram>) => void, changes: Partial<AddressSpaceConfig> = {}) {
    const memory = ram();
    chain(memory);
    memory.writeU64(PDPT, PD | P);
    edit(memory);
    return engine.createAddressSpace(memory, config(changes));
  }

  const reservedBits = [1, 2, 5, 6, 7, 8, 40, 45, 51, 52, 62, 63];

  it.each(reservedBits)("bit %i of a present PDPTE is #GP when it is loaded, and #PF when it is read live", (n) => {
    const edit = (memory: ReturnType<typeof ram>) => memory.writeU64(PDPT, PD | P | bit(n));
    expect(() => pae(edit)).toThrow(GeneralProtectionError);
    expect(() => pae(edit, { rules: "kvm-6.1" })).toThrow(GeneralProtectionError);
    const live = pae(edit, { pdptes: "live" });
    expect(fault(live.translate(0, Access.Write | Access.User))).toMatchObject({
      errorCode: 0xfn,
      level: 3,
      entryAddress: PDPT,
    });
    const lenient = pae(edit, { lenient: true }).translate(0);
    // A bit that is not reserved there is part of the address, and nothing lies that high.
    expect(lenient.status).toBe(n >= 40 && n <= 51 ? Status.OutsideMemory : Status.Ok);
  });

  it("bits 4:3 and 11:9 of a PDPTE are free, and a PDPTE that is not present has no reserved bit", () => {
    expect(pae((memory) => memory.writeU64(PDPT, PD | P | 0xe18n)).translate(0).ok).toBe(true);
    expect(pae((memory) => memory.writeU64(PDPT + 8n, ~P & ((1n << 64n) - 1n))).translate(0).ok).toBe(true);
  });

  it("latched PDPTEs stay when memory changes, live ones do not", () => {
    for (const [pdptes, ok] of [
      ["latched", true],
      ["live", false],
    ] as const) {
      const memory = ram();
      chain(memory);
      memory.writeU64(PDPT, PD | P);
      const space = engine.createAddressSpace(memory, config({ pdptes }));
      memory.writeU64(PDPT, 0n);
      expect(space.translate(0).ok).toBe(ok);
    }
  });

  it("pdpteValues stand in for memory, and are checked as well", () => {
    const space = pae(() => {}, { cr3: 0xfff000n, pdpteValues: [0n, PD | P, 0n, 0n] });
    expect(mapped(space.translate(0x40000123)).pa).toBe(0x5123n);
    expect(fault(space.translate(0))).toMatchObject({ errorCode: 0n, level: 3 });
    expect(() => pae(() => {}, { pdpteValues: [0n, PD | P | W, 0n, 0n] })).toThrow(GeneralProtectionError);
  });

  it("CR3 is 32-byte aligned, and bits 31:30 choose the PDPTE", () => {
    const space = pae((memory) => memory.writeU64(PDPT + 0x20n + 24n, PD | P), { cr3: PDPT | 0x3fn });
    expect(mapped(space.translate(0xc0000123)).pa).toBe(0x5123n);
    expect(errorCode(space.translate(0))).toBe(0);
  });

  it("a PDPTE gives all rights and gets no accessed flag", () => {
    const memory = ram();
    chain(memory);
    memory.writeU64(PDPT, PD | P);
    const space = engine.createAddressSpace(memory, config({ pdptes: "live" }));
    expect(mapped(space.translate(0, Access.Write | Access.User)).rights).toMatchObject({ write: true, user: true });
    expect(memory.readU64(PDPT)).toBe(PD | P);
    expect(memory.readU64(PD) & 0x20n).toBe(0x20n);
  });

  it("bits 62:MAXPHYADDR of PDEs and PTEs are reserved, and XD while NXE is 0", () => {
    for (const table of [PD, PT]) {
      for (let n = 40; n <= 63; n++) {
        const edit = (memory: ReturnType<typeof ram>) => memory.writeU64(table, memory.readU64(table) | bit(n));
        expect(pae(edit).translate(0).ok, `bit ${n}`).toBe(n === 63);
        if (n === 63) expect(errorCode(pae(edit, { efer: 0n }).translate(0))).toBe(RSVD);
      }
    }
  });

  it("unreadable PDPTEs are #GP", () => {
    expect(() => pae(() => {}, { cr3: 0x200000n })).toThrow(GeneralProtectionError);
  });
});

describe("the memory-encryption bit", () => {
  it("is taken out of entries before the reserved check and the address, and shown as it stands", () => {
    const c = bit(47);
    const { space, memory } = machine({ maxPhysAddr: 40, encryptionMask: c, cr0: CR0.base }, (ram) => {
      for (const table of [PML4, PDPT, PD, PT]) ram.writeU64(table, ram.readU64(table) | c);
    });
    expect(mapped(space.translate(0x123, Access.Write)).pa).toBe(0x5123n);
    expect(memory.readU64(PT)).toBe(0x5067n | c);
    expect(space.walk(0).steps.map((step) => step.entry & c)).toEqual([c, c, c, c]);
    memory.writeU64(PT, c);
    expect(fault(space.translate(0)).entry).toBe(c);
  });
});
