/** Roles from registers, against recorded ones. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  cpuRole,
  directRoot,
  joinCpuRole,
  kvm61DirectRoot,
  kvm61NestedEptRoot,
  kvm61NestedNptRoot,
  kvm61ShadowRoot,
  nestedEptCpuRole,
  nestedEptRoot,
  nestedNptCpuRole,
  nestedNptRoot,
  roleGuestLevel,
  roleIsPaeRoot,
  roleIsPromoted,
  roleLevel,
  shadowRoot,
  tdpLevel,
} from "../../src/role/index.js";

const PG = 0x80000011;
const WP = 0x10000;
const PSE = 0x10;
const PAE = 0x20;
const LA57 = 0x1000;
const SMEP = 0x100000;
const SMAP = 0x200000;
const PKE = 0x400000;
const LONG = 0x500;
const NX = 0x800;

const longMode = (cr4 = 0, cr0 = WP) => cpuRole({ cr0: PG | cr0, cr4: PAE | cr4, efer: LONG | NX });
const pae = () => cpuRole({ cr0: PG | WP, cr4: PAE, efer: NX });
const twoLevel = (cr4 = 0) => cpuRole({ cr0: PG | WP, cr4, efer: 0 });
const unpaged = () => cpuRole({ cr0: 0x11, cr4: 0, efer: 0 });

describe("roles of Linux 6.1 from registers", () => {
  it("long mode with WP and NX: root 0x3704, CPU role 0x8100003704", () => {
    expect(joinCpuRole(longMode())).toBe(0x8100003704n);
    expect(kvm61ShadowRoot(longMode())).toBe(0x3704);
  });

  it.each([
    ["alone", 0, 0x1704],
    ["with SMEP", SMEP, 0x5704],
    ["with SMAP", SMAP, 0x9704],
    ["with both", SMEP | SMAP, 0xd704],
  ])("CR0.WP=0 %s", (_, cr4, root) => {
    expect(kvm61ShadowRoot(longMode(cr4, 0))).toBe(root);
  });

  it("SMEP and SMAP leave the page role alone while CR0.WP=1", () => {
    expect(joinCpuRole(longMode(SMEP | SMAP))).toBe(0xb100003704n);
  });

  it("a guest without NX still has root role 0x3704", () => {
    const cpu = cpuRole({ cr0: PG | WP, cr4: PAE, efer: LONG });
    expect(cpu.base).toBe(0x2704);
    expect(kvm61ShadowRoot(cpu)).toBe(0x3704);
  });

  it("PAE: root 0x3703", () => {
    expect(kvm61ShadowRoot(pae())).toBe(0x3703);
  });

  it("32-bit: CPU role 0x100002712, root 0x3713; CR4.PSE is only in the extended role", () => {
    expect(joinCpuRole(twoLevel())).toBe(0x100002712n);
    expect(kvm61ShadowRoot(twoLevel())).toBe(0x3713);
    expect(joinCpuRole(twoLevel(PSE))).toBe(0x500002712n);
  });

  it("no paging: CPU role 0x100000780, root 0x1783, and no register counts", () => {
    expect(joinCpuRole(unpaged())).toBe(0x100000780n);
    expect(kvm61ShadowRoot(unpaged())).toBe(0x1783);
    expect(cpuRole({ cr0: WP, cr4: PAE | SMEP | SMAP | LA57, efer: NX })).toEqual(unpaged());
  });

  it("protection keys and CR4.LA57 count in long mode only", () => {
    expect(longMode(PKE | LA57).ext & ~longMode().ext).toBe(0x48);
    const outside = cpuRole({ cr0: PG | WP, cr4: PAE | PKE | LA57, efer: NX });
    expect(outside).toEqual(pae());
  });

  it("system-management mode is bit 24, guest mode bit 17", () => {
    const registers = { cr0: PG | WP, cr4: PAE, efer: LONG | NX };
    expect(cpuRole(registers, { smm: true }).base).toBe(0x1003704);
    expect(cpuRole({ cr0: 0x11, cr4: 0, efer: 0 }, { smm: true, guestMode: true }).base).toBe(0x1020780);
    expect(cpuRole(registers, { guestMode: true }).base).toBe(0x23704);
  });

  it("shadow EPT roles: 0x30704 without A/D, 0x20704 with", () => {
    const ept = (accessedDirty: boolean) => nestedEptCpuRole({ level: 4, accessedDirty, executeOnly: true });
    expect(joinCpuRole(ept(false))).toBe(0x300030704n);
    expect(joinCpuRole(ept(true))).toBe(0x300020704n);
    expect(nestedEptCpuRole({ level: 4, accessedDirty: true, executeOnly: false }).ext).toBe(1);
  });

  it("a nested page table knows no protection keys", () => {
    const registers = { cr0: PG, cr4: PAE | PKE, efer: LONG | NX };
    expect(nestedNptCpuRole(registers).ext & 8).toBe(0);
    expect(cpuRole(registers).ext & 8).toBe(8);
  });

  it("a 5-level table over a 4-level nested one passes through", () => {
    const cpu = nestedNptCpuRole({ cr0: PG, cr4: PAE, efer: LONG | NX });
    expect(kvm61NestedNptRoot(cpu, 5)).toBe(0x61705);
    expect(kvm61NestedNptRoot(cpu, 4)).toBe(0x21704);
  });

  it("five TDP levels are used only above 48 guest address bits, unless the host forces them", () => {
    expect(tdpLevel({ forced: 0, max: 5, guestMaxPhysAddr: 48 })).toBe(4);
    expect(tdpLevel({ forced: 0, max: 5, guestMaxPhysAddr: 49 })).toBe(5);
    expect(tdpLevel({ forced: 0, max: 4, guestMaxPhysAddr: 52 })).toBe(4);
    expect(tdpLevel({ forced: 5, max: 5, guestMaxPhysAddr: 36 })).toBe(5);
  });
});

describe("recorded roles", () => {
  interface Row {
    kind: "shadow" | "direct" | "npt" | "ept";
    host: { forced: number; max: number; maxphyaddr: number; ad: number };
    registers: Record<string, string>;
    cpu_role: string;
    root_role: string;
    recording: string;
  }
  const file = new URL("../fixtures/role/recorded.json", import.meta.url);
  const rows = JSON.parse(readFileSync(file, "utf8")) as Row[];

  it.each(rows.map((row) => [`${row.kind} ${row.cpu_role} (${row.recording})`, row] as const))("%s", (_, row) => {
    const { forced, max, maxphyaddr, ad } = row.host;
    const level = tdpLevel({ forced, max, guestMaxPhysAddr: maxphyaddr });
    const registers = {
      cr0: Number(row.registers.cr0),
      cr4: Number(row.registers.cr4),
      efer: Number(row.registers.efer),
    };
    const ept = {
      level: ((Number(row.registers.eptp) >> 3) & 7) + 1,
      accessedDirty: row.registers.ad === "0x1",
      executeOnly: row.registers.execonly === "0x1",
    };
    const cpu = { shadow: cpuRole, direct: cpuRole, npt: nestedNptCpuRole, ept: () => nestedEptCpuRole(ept) }[row.kind](
      registers,
    );
    const root = {
      shadow: () => kvm61ShadowRoot(cpu),
      direct: () => kvm61DirectRoot(cpu, level, ad === 1),
      npt: () => kvm61NestedNptRoot(cpu, level),
      ept: () => kvm61NestedEptRoot(cpu),
    }[row.kind]();
    expect(`0x${joinCpuRole(cpu).toString(16)}`).toBe(row.cpu_role);
    expect(`0x${root.toString(16)}`).toBe(row.root_role);
  });

  it("cover every use", () => {
    expect(new Set(rows.map((row) => row.kind))).toEqual(new Set(["shadow", "direct", "npt", "ept"]));
  });
});

describe("this project's root roles", () => {
  const shape = (root: number) => [roleLevel(root), roleIsPromoted(root), roleIsPaeRoot(root), roleGuestLevel(root)];
  const npt2 = nestedNptCpuRole({ cr0: PG, cr4: 0, efer: 0 });
  const npt3 = nestedNptCpuRole({ cr0: PG, cr4: PAE, efer: NX });
  const npt4 = nestedNptCpuRole({ cr0: PG, cr4: PAE, efer: LONG | NX });
  const npt5 = nestedNptCpuRole({ cr0: PG, cr4: PAE | LA57, efer: LONG | NX });

  it.each([
    ["2 to 3", shadowRoot(twoLevel()), [3, true, true, 2]],
    ["2 to 3, CR4.PSE=1", shadowRoot(twoLevel(PSE)), [3, true, true, 2]],
    ["2 to 4", nestedNptRoot(npt2, 4), [4, true, false, 2]],
    ["2 to 5", nestedNptRoot(npt2, 5), [5, true, false, 2]],
    ["3 to 4", nestedNptRoot(npt3, 4), [4, true, false, 3]],
    ["3 to 5", nestedNptRoot(npt3, 5), [5, true, false, 3]],
    ["4 to 5", nestedNptRoot(npt4, 5), [5, true, false, 4]],
    ["2 under a 32-bit host", nestedNptRoot(npt2, 3), [3, true, true, 2]],
  ])("promotes %s levels", (_, root, expected) => {
    expect(shape(root)).toEqual(expected);
  });

  it.each([
    ["PAE shadow paging", shadowRoot(pae()), [3, false, true, 3]],
    ["long mode", shadowRoot(longMode()), [4, false, false, 4]],
    ["5-level paging", shadowRoot(longMode(LA57)), [5, false, false, 5]],
    ["5-level nested tables", nestedNptRoot(npt5, 5), [5, false, false, 5]],
    [
      "nested EPT",
      nestedEptRoot(nestedEptCpuRole({ level: 4, accessedDirty: true, executeOnly: true })),
      [4, false, false, 4],
    ],
  ])("does not promote %s", (_, root, expected) => {
    expect(shape(root)).toEqual(expected);
  });

  it.each([
    ["paging off", shadowRoot(unpaged()), [3, false, true, 0]],
    ["two-dimensional paging", directRoot(longMode(), 4, true), [4, false, false, 0]],
    ["a 32-bit host's NPT", directRoot(longMode(), 3, true), [3, false, true, 0]],
  ])("gives direct roots no guest level: %s", (_, root, expected) => {
    expect(shape(root)).toEqual(expected);
  });

  it("is the 6.1 role in all other bits", () => {
    expect(shadowRoot(twoLevel())).toBe(0x3713 | (1 << 18) | (1 << 19) | (2 << 20));
    expect(directRoot(longMode(), 4, true)).toBe(0x3784);
    expect(directRoot(longMode(), 4, false)).toBe(0x13784);
  });

  it("a 4-level and a 5-level guest never share a root role, nor do 4 to 2 and 4 to 3", () => {
    expect(shadowRoot(longMode(LA57))).not.toBe(shadowRoot(longMode()));
    expect(nestedNptRoot(npt2, 4) ^ nestedNptRoot(npt3, 4)).toBe((1 << 20) | 0x10 | 0x1000);
  });
});
