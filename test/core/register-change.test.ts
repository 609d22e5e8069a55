/** What MOV to a control register refuses of a space; test/mmu/register-change.test.ts has the same of a vCPU. */
import { describe, expect, it } from "vitest";
import {
  type AddressSpaceConfig,
  type CoreSpace,
  GeneralProtectionError,
  loadSync,
  VmEntryError,
} from "../../src/index.js";

const PCIDE = 1n << 17n;
const LA57 = 1n << 12n;
const LAM_SUP = 1n << 28n;
const CET = 1n << 23n;
const WP = 1n << 16n;
const LONG = { cr0: 0x80000001n, cr3: 0x1000n, cr4: 0x20n, efer: 0x500n };
const OFF = { cr0: 1n, efer: 0x100n };

const core = loadSync();

function space(changes: Partial<AddressSpaceConfig> = {}): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  memory.writeU64(0x1000n, 0x2000n | 7n);
  memory.writeU64(0x2000n, 0x3000n | 7n);
  memory.writeU64(0x3000n, 0x87n);
  return core.createAddressSpace(memory, { ...LONG, tlbEntries: 16, ...changes });
}

describe("an update of a space", () => {
  it.each<[string, Partial<AddressSpaceConfig>, Partial<AddressSpaceConfig>]>([
    ["CR4.PCIDE under a PCID", { cr3: 0x1005n }, { cr4: LONG.cr4 | PCIDE }],
    ["CR4.PCIDE and another PCID", { cr3: 0x1005n }, { cr4: LONG.cr4 | PCIDE, cr3: 0x1006n }],
    ["CR4.PCIDE outside long mode", OFF, { cr4: LONG.cr4 | PCIDE }],
    ["CR0.PG=0 under CR4.PCIDE", { cr4: LONG.cr4 | PCIDE }, OFF],
    ["CR4.LA57 in long mode", {}, { cr4: LONG.cr4 | LA57 }],
    ["CR4.LA57 away in long mode", { cr4: LONG.cr4 | LA57 }, { cr4: LONG.cr4 }],
    ["CR4.PAE away in long mode", {}, { cr4: 0n }],
    ["CR4.LAM_SUP without LAM", { cpu: { lam: false } }, { cr4: LONG.cr4 | LAM_SUP }],
    ["CR4.CET without CR0.WP", {}, { cr4: LONG.cr4 | CET }],
    ["CR0.WP=0 under CR4.CET", { cr0: LONG.cr0 | WP, cr4: LONG.cr4 | CET }, { cr0: LONG.cr0 }],
    ["CR4.CET without CET", { cr0: LONG.cr0 | WP, cpu: { cet: false } }, { cr4: LONG.cr4 | CET }],
    ["CR3 bit 61 without LAM", { cpu: { lam: false } }, { cr3: LONG.cr3 | (1n << 61n) }],
    ["CR3 bit 63 without CR4.PCIDE", {}, { cr3: LONG.cr3 | (1n << 63n) }],
  ])("is #GP with nothing changed: %s", (_, start, change) => {
    const at = space(start);
    const before = [at.mode, at.translate(0x123)];
    expect(() => at.update(change)).toThrow(GeneralProtectionError);
    expect([at.mode, at.translate(0x123)]).toEqual(before);
  });

  it("takes what a processor does in some order", () => {
    const at = space({ cr3: 0x1005n });
    at.update({ cr3: 0x1000n, cr4: LONG.cr4 | PCIDE });
    at.update({ cr3: 0x1005n });
    at.update({ ...OFF, cr4: LONG.cr4 });
    at.update({ cr4: LONG.cr4 | LA57 });
    at.update({ ...LONG, cr4: LONG.cr4 | LA57 });
    expect(at.mode).toBe("5level");
    const stacks = space();
    for (let round = 0; round < 2; round++) {
      stacks.update({ cr0: LONG.cr0 | WP, cr4: LONG.cr4 | CET });
      stacks.update({ cr0: LONG.cr0, cr4: LONG.cr4 });
    }
    expect(() => stacks.update({ cr4: LONG.cr4 | CET })).toThrow(GeneralProtectionError);
    const second = space();
    second.update({ cr3: 0x1005n, cr4: LONG.cr4 | PCIDE });
    second.update({ cr3: 0x1005n | (1n << 63n) });
    expect(second.translate(0x123).ok).toBe(true);
  });

  it("keeps to the checks of how the registers got there", () => {
    const at = space({ loadedBy: "vm-entry", maxPhysAddr: 40 });
    expect(() => at.update({ cr3: 1n << 40n })).toThrow(VmEntryError);
    expect(() => at.writeCr3(1n << 40n)).toThrow(GeneralProtectionError);
    expect(at.translate(0x123).ok).toBe(true);
  });

  it("checks INVPCID's address by the processor's width", () => {
    const wide = space({ cr4: LONG.cr4 | PCIDE });
    wide.invpcid(0, 1, 1n << 47n);
    expect(() => wide.invpcid(0, 1, 1n << 56n)).toThrow(GeneralProtectionError);
    const narrow = space({ cr4: LONG.cr4 | PCIDE, cpu: { la57: false } });
    narrow.invpcid(0, 1, (1n << 47n) - 1n);
    expect(() => narrow.invpcid(0, 1, 1n << 47n)).toThrow(GeneralProtectionError);
  });
});
