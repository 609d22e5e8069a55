/** What a write to a control register brings about, bit by bit (SDM vol. 3, "Control Registers"; kvm_set_cr0 and its like). */
import { describe, expect, it } from "vitest";
import { ConfigError, GeneralProtectionError, VmEntryError } from "../../src/errors.js";
import {
  checkChange,
  numbersOf,
  type PagingRegisters,
  smmRegisters,
  writeCr0,
  writeCr4,
  writeEfer,
} from "../../src/registers/control-registers.js";
import { checkCr3, reservedCr3Bits } from "../../src/registers/cr3.js";
import { eptpProblem } from "../../src/registers/eptp.js";
import { checkInvpcid } from "../../src/registers/invpcid.js";
import { checkMode } from "../../src/registers/mode.js";

const CR0 = { PE: 1, EM: 4, TS: 8, ET: 0x10, WP: 0x1_0000, NW: 0x2000_0000, CD: 0x4000_0000, PG: 0x8000_0000 };
const CR4 = {
  ...{ PSE: 0x10, PAE: 0x20, PGE: 0x80, LA57: 0x1000, PCIDE: 0x2_0000 },
  ...{ SMEP: 0x10_0000, SMAP: 0x20_0000, PKE: 0x40_0000 },
};
const EFER = { LME: 0x100, LMA: 0x400, NXE: 0x800 };

const make = (cr0: number, cr4: number, efer: number, cr3 = 0x1000n): PagingRegisters => ({
  cr0: cr0 >>> 0,
  cr3,
  cr4,
  efer,
});
const PAGED = (CR0.PE | CR0.ET | CR0.PG) >>> 0;
const LONG = make(PAGED, CR4.PAE, EFER.LME | EFER.LMA);
const PAE = make(PAGED, CR4.PAE, 0);
const UNPAGED = make(CR0.PE | CR0.ET, 0, 0);
const LEGACY = make(PAGED, 0, 0);

/** Of some bits those whose change does something. */
function effective(bits: Readonly<Record<string, number>>, effect: (bit: number) => boolean): string[] {
  return Object.entries(bits).flatMap(([name, bit]) => (effect(bit) ? [name] : []));
}

const cr0 = (old: PagingRegisters, value: number) => writeCr0(old, BigInt(value >>> 0));
const cr4 = (old: PagingRegisters, value: number) => writeCr4(old, BigInt(value >>> 0));
const { PE: _, ET: __, PG: ___, ...CR0_FREE } = CR0;
const { PAE: ____, LA57: _____, PCIDE: ______, ...CR4_FREE } = CR4;

describe("MOV to CR0", () => {
  it("loads the PDPTEs of PAE paging where CD, NW or PG change", () => {
    const reloads = (old: PagingRegisters) => effective(CR0_FREE, (bit) => cr0(old, old.cr0 ^ bit).reloadsPdptes);
    expect(reloads(PAE)).toEqual(["NW", "CD"]);
    expect([reloads(LONG), reloads(LEGACY), reloads(UNPAGED)]).toEqual([[], [], []]);
    expect(cr0({ ...UNPAGED, cr4: CR4.PAE }, PAGED).reloadsPdptes).toBe(true);
    expect(cr0({ ...UNPAGED, cr4: CR4.PAE, efer: EFER.LME }, PAGED).reloadsPdptes).toBe(false);
  });

  it("changes the roles by WP and PG, and flushes where paging ends", () => {
    for (const old of [PAE, LONG, LEGACY]) {
      expect(effective(CR0_FREE, (bit) => cr0(old, old.cr0 ^ bit).changesRoles)).toEqual(["WP"]);
      expect(effective(CR0_FREE, (bit) => cr0(old, old.cr0 ^ bit).changesOnlyWriteProtect === true)).toEqual(["WP"]);
      expect(effective(CR0_FREE, (bit) => cr0(old, old.cr0 ^ bit).flushes)).toEqual([]);
    }
    expect(cr0(LEGACY, CR0.PE)).toMatchObject({ changesRoles: true, flushes: true, changesOnlyWriteProtect: false });
    expect(cr0(UNPAGED, PAGED)).toMatchObject({ changesRoles: true, flushes: false });
  });

  it("has ET set whatever is written, and moves LMA with PG where LME is set", () => {
    expect(cr0(UNPAGED, CR0.PE).registers.cr0).toBe(CR0.PE | CR0.ET);
    expect(cr0(LONG, CR0.PE).registers.efer).toBe(EFER.LME);
    expect(cr0({ ...UNPAGED, cr4: CR4.PAE, efer: EFER.LME }, PAGED).registers).toEqual(LONG);
    expect(cr0({ ...UNPAGED, cr4: CR4.PAE }, PAGED).registers.efer).toBe(0);
  });

  it("refuses PG without PE, long mode without PAE, and the end of paging under PCIDE", () => {
    expect(() => cr0(UNPAGED, CR0.PG)).toThrow(GeneralProtectionError);
    expect(() => cr0({ ...UNPAGED, efer: EFER.LME }, PAGED)).toThrow(GeneralProtectionError);
    expect(() => cr0({ ...LONG, cr4: CR4.PAE | CR4.PCIDE }, CR0.PE)).toThrow(GeneralProtectionError);
  });
});

describe("MOV to CR4", () => {
  it("loads the PDPTEs of PAE paging where PGE, PSE, PAE or SMEP change", () => {
    const reloads = (old: PagingRegisters) => effective(CR4_FREE, (bit) => cr4(old, old.cr4 ^ bit).reloadsPdptes);
    expect(reloads(PAE)).toEqual(["PSE", "PGE", "SMEP"]);
    expect([reloads(LONG), reloads(LEGACY), reloads(UNPAGED)]).toEqual([[], [], []]);
    expect(cr4(LEGACY, CR4.PAE).reloadsPdptes).toBe(true);
    expect(cr4(PAE, 0).reloadsPdptes).toBe(false);
  });

  it("changes the roles by all but PGE and PCIDE, and flushes by PGE and the end of PCIDE", () => {
    const roles = ["PSE", "SMEP", "SMAP", "PKE"];
    for (const old of [PAE, LONG, LEGACY]) {
      expect(effective(CR4_FREE, (bit) => cr4(old, old.cr4 ^ bit).changesRoles)).toEqual(roles);
      expect(effective(CR4_FREE, (bit) => cr4(old, old.cr4 ^ bit).flushes)).toEqual(["PGE"]);
      expect(effective(CR4_FREE, (bit) => cr4(old, old.cr4 ^ bit).freesRoots)).toEqual([]);
    }
    for (const bit of [CR4.PAE, CR4.LA57])
      expect(cr4(UNPAGED, bit)).toMatchObject({ changesRoles: true, flushes: false });
    const begun = cr4(LONG, LONG.cr4 | CR4.PCIDE);
    expect(begun).toMatchObject({ changesRoles: false, flushes: false, freesRoots: true });
    expect(cr4(begun.registers, LONG.cr4)).toMatchObject({ flushes: true, freesRoots: false });
  });

  it("refuses what long mode does not let change, and PCIDE where it cannot begin", () => {
    expect(() => cr4(LONG, 0)).toThrow(GeneralProtectionError);
    expect(() => cr4(LONG, CR4.PAE | CR4.LA57)).toThrow(GeneralProtectionError);
    expect(() => cr4({ ...LONG, cr4: CR4.PAE | CR4.LA57 }, CR4.PAE)).toThrow(GeneralProtectionError);
    expect(() => cr4(PAE, CR4.PAE | CR4.PCIDE)).toThrow(GeneralProtectionError);
    expect(() => cr4({ ...LONG, cr3: 0x1001n }, CR4.PAE | CR4.PCIDE)).toThrow(GeneralProtectionError);
    expect(cr4(PAE, CR4.LA57).registers.cr4).toBe(CR4.LA57);
  });

  it("may begin PCIDE together with a CR3 that has no PCID", () => {
    const next = (cr3: bigint) => ({ ...LONG, cr3, cr4: CR4.PAE | CR4.PCIDE });
    expect(() => checkChange({ ...LONG, cr3: 0x1001n }, next(0x2000n))).not.toThrow();
    expect(() => checkChange(LONG, next(0x2001n))).not.toThrow();
    expect(() => checkChange({ ...LONG, cr3: 0x1001n }, next(0x2001n))).toThrow(GeneralProtectionError);
  });
});

describe("WRMSR to EFER", () => {
  it("keeps LMA, changes the roles by LME and NXE, and refuses another LME under paging", () => {
    expect(writeEfer(LONG, BigInt(EFER.LME)).registers.efer).toBe(EFER.LME | EFER.LMA);
    expect(writeEfer(UNPAGED, BigInt(EFER.LMA)).registers.efer).toBe(0);
    expect(writeEfer(UNPAGED, BigInt(EFER.LME)).changesRoles).toBe(true);
    expect(writeEfer(LONG, BigInt(EFER.LME | EFER.NXE)).changesRoles).toBe(true);
    expect(writeEfer(LONG, BigInt(EFER.LME | 1)).changesRoles).toBe(false);
    for (const old of [LEGACY, PAE]) expect(() => writeEfer(old, BigInt(EFER.LME))).toThrow(GeneralProtectionError);
    expect(() => writeEfer(LONG, 0n)).toThrow(GeneralProtectionError);
  });
});

it("system-management mode begins without PE, EM, TS, PG, CR4 and EFER", () => {
  const all = Object.values(CR0).reduce((mask, bit) => mask | bit, 0) >>> 0;
  const left = (CR0.ET | CR0.WP | CR0.NW | CR0.CD) >>> 0;
  expect(smmRegisters(make(all, 0x20, 0x500))).toEqual(make(left, 0, 0));
});

describe("CR3", () => {
  const wide = { longMode: true, cr4: 0x20n };
  const pcid = { longMode: true, cr4: 0x2_0020n };
  const legacy = { longMode: false, cr4: 0x20n };
  const processor = { maxPhysAddr: 40, lam: false };
  const lam = { maxPhysAddr: 40, lam: true };
  const HIGH = 1n << 40n;
  const MASKING = 3n << 61n;
  const ORDER = 1n << 63n;

  it("has its reserved bits from MAXPHYADDR up, but those of LAM, and MOV's order under PCIDE", () => {
    const value = HIGH | MASKING | ORDER | (HIGH - 1n);
    expect(reservedCr3Bits(value, "mov", wide, processor)).toBe(HIGH | MASKING | ORDER);
    expect(reservedCr3Bits(value, "mov", wide, lam)).toBe(HIGH | ORDER);
    expect(reservedCr3Bits(value, "mov", pcid, lam)).toBe(HIGH);
    expect(reservedCr3Bits(value, "vm-entry", pcid, lam)).toBe(HIGH | ORDER);
    expect(reservedCr3Bits(value, "mov", legacy, processor)).toBe(0n);
    expect(reservedCr3Bits(value, "vm-entry", legacy, processor)).toBe(HIGH | MASKING | ORDER);
    expect(reservedCr3Bits(HIGH - 1n, "vm-entry", legacy, processor)).toBe(0n);
  });

  it("is refused by the error of who loads it", () => {
    expect(() => checkCr3(HIGH, "mov", wide, processor)).toThrow(GeneralProtectionError);
    expect(() => checkCr3(HIGH, "vm-entry", wide, processor)).toThrow(VmEntryError);
  });
});

describe("EPTP", () => {
  const all = {
    maxPhysAddr: 40,
    memoryTypes: [0n, 6n],
    fiveLevels: true,
    accessedDirty: true,
    shadowStackControl: false,
  };
  const problem = (eptp: bigint, changes: Partial<typeof all> = {}) => eptpProblem(eptp, { ...all, ...changes });
  it("is taken by what the processor has, and nothing else", () => {
    for (const eptp of [0x101en, 0x1018n, 0x1026n, 0x105en, ((1n << 40n) - 4096n) | 0x1en]) {
      expect(problem(eptp), eptp.toString(16)).toBeUndefined();
    }
    for (const eptp of [0x1019n, 0x1016n, 0x102en, 0x103en, 0x109en, 0x181en, (1n << 40n) | 0x1en]) {
      expect(problem(eptp), eptp.toString(16)).toBeDefined();
    }
    expect(problem(0x1026n, { fiveLevels: false })).toMatch(/walk length of 5, expected 4$/);
    expect(problem(0x105en, { accessedDirty: false })).toMatch(/accessed and dirty/);
    expect(problem(0x1018n, { memoryTypes: [6n] })).toMatch(/memory type 0/);
  });
});

describe("INVPCID", () => {
  const mode = { pcide: true, longMode: true, la57: false };
  const refuses = (type: number, pcid: number, address: bigint, changes: object = {}) => {
    try {
      checkInvpcid(type, pcid, address, { ...mode, ...changes });
    } catch (error) {
      return (error as Error).name;
    }
    return undefined;
  };
  it("takes types 0 to 3, 4,096 PCIDs with PCIDE, and canonical addresses of type 0", () => {
    expect([-1, 0, 3, 4].map((type) => refuses(type, 0, 0n) !== undefined)).toEqual([true, false, false, true]);
    expect([0, 4095, 4096, -1].map((pcid) => refuses(1, pcid, 0n) !== undefined)).toEqual([false, false, true, true]);
    const without = [0, 1, 2, 3].map((type) => refuses(type, 1, 0n, { pcide: false }));
    expect(without).toEqual(["GeneralProtectionError", "GeneralProtectionError", undefined, undefined]);
    const edge = 1n << 47n;
    expect([edge - 1n, edge, (1n << 64n) - edge].map((at) => refuses(0, 0, at))).toEqual([
      undefined,
      "GeneralProtectionError",
      undefined,
    ]);
    expect(refuses(1, 0, edge)).toBeUndefined();
    expect([edge, 1n << 56n].map((at) => refuses(0, 0, at, { la57: true }))).toEqual([
      undefined,
      "GeneralProtectionError",
    ]);
    const legacy = { longMode: false, pcide: false };
    expect([0xffff_ffffn, 1n << 32n].map((at) => refuses(0, 0, at, legacy))).toEqual([undefined, "ConfigError"]);
  });
});

it("no processor pages without protection, or is in long mode without paging and PAE, or has PCIDE outside it", () => {
  const check = (registers: PagingRegisters) => () =>
    checkMode({ cr0: BigInt(registers.cr0), cr4: BigInt(registers.cr4), efer: BigInt(registers.efer) });
  for (const one of [LONG, PAE, LEGACY, UNPAGED, { ...LONG, cr4: CR4.PAE | CR4.PCIDE }])
    expect(check(one)).not.toThrow();
  for (const one of [
    make(CR0.PG, 0, 0),
    make(CR0.PE, CR4.PAE, EFER.LMA),
    make(PAGED, 0, EFER.LMA),
    make(PAGED, CR4.PAE | CR4.PCIDE, 0),
    make(CR0.PE, CR4.PCIDE, 0),
  ]) {
    expect(check(one)).toThrow(ConfigError);
  }
  expect(numbersOf({ cr0: (5n << 32n) | 1n, cr3: 1n << 60n, cr4: 1n << 32n, efer: 0n })).toEqual(
    make(1, 0, 0, 1n << 60n),
  );
});
