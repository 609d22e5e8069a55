/** What MOV to a control register and VM entry refuse of a vCPU; test/core/register-change.test.ts has the same of a space. */
import { describe, expect, it } from "vitest";
import { ConfigError, GeneralProtectionError, VmEntryError } from "../../src/index.js";
import { Guest } from "./guest.js";
import { NestedEpt, NestedNpt } from "./nested-guest.js";

const LA57 = 1n << 12n;
const LAM_SUP = 1n << 28n;
const LASS = 1n << 27n;
const UAIE = 1n << 20n;
const CET = 1n << 23n;

describe("a vCPU's registers", () => {
  it.each<[string, (guest: Guest) => void]>([
    ["MOV to CR3 beyond MAXPHYADDR", ({ vcpu }) => vcpu.writeCr3(1n << 46n)],
    ["MOV to CR3 with a LAM bit", ({ vcpu }) => vcpu.writeCr3(vcpu.registers.cr3 | (1n << 61n))],
    ["MOV to CR3 with bit 63", ({ vcpu }) => vcpu.writeCr3(vcpu.registers.cr3 | (1n << 63n))],
    ["MOV to CR4 with LASS", ({ vcpu }) => vcpu.writeCr4(vcpu.registers.cr4 | LASS)],
    ["WRMSR to EFER with UAIE", ({ vcpu }) => vcpu.writeEfer(vcpu.registers.efer | UAIE)],
    ["EFER.UAIE, set", ({ vcpu }) => vcpu.setRegisters({ ...vcpu.registers, efer: vcpu.registers.efer | UAIE })],
    ["MOV to CR4 with LAM_SUP", ({ vcpu }) => vcpu.writeCr4(vcpu.registers.cr4 | LAM_SUP)],
    ["MOV to CR4 with LA57", ({ vcpu }) => vcpu.writeCr4(vcpu.registers.cr4 | LA57)],
    ["CR3 beyond MAXPHYADDR, set", ({ vcpu }) => vcpu.setRegisters({ ...vcpu.registers, cr3: 1n << 46n })],
    ["MOV to CR4 with CET", ({ vcpu }) => vcpu.writeCr4(vcpu.registers.cr4 | CET)],
    ["CR4.LAM_SUP, set", ({ vcpu }) => vcpu.setRegisters({ ...vcpu.registers, cr4: vcpu.registers.cr4 | LAM_SUP })],
  ])("refuse what the processor does not have, with nothing changed: %s", (_, act) => {
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, 0x5000n, 0x20_0000n);
    guest.start("4level", root);
    const before = [guest.vcpu.registers, guest.vcpu.state.rootMmu.roots.current];
    expect(() => act(guest)).toThrow(GeneralProtectionError);
    expect([guest.vcpu.registers, guest.vcpu.state.rootMmu.roots.current]).toEqual(before);
    guest.dispose();
  });

  it("say for CR4.LA57 what the guest's CPUID says", () => {
    const unpaged = { cr0: 1n, cr3: 0n, cr4: 0x20n, efer: 0n };
    for (const guestLa57 of [true, false]) {
      const guest = new Guest({ guestLa57 });
      const vcpu = guest.vm.createVcpu(unpaged);
      const write = () => vcpu.writeCr4(0x20n | LA57);
      if (guestLa57) expect(write).not.toThrow();
      else expect(write).toThrow(GeneralProtectionError);
      guest.dispose();
    }
  });

  it("take 32 bits of MOV to CR3 outside long mode", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.mode = "32";
    guest.map(root, 0x5000n, 0x20_0000n);
    guest.start("32", root);
    guest.vcpu.writeCr3(root | (1n << 45n) | (1n << 63n));
    expect(guest.vcpu.registers.cr3).toBe(root);
    guest.dispose();
  });

  it("of an L2 are refused at its entry with bits at or above MAXPHYADDR in every mode, and nothing is entered", () => {
    const modes = [
      { cr0: 1n, cr4: 0n, efer: 0n },
      { cr0: 0x80000001n, cr4: 0n, efer: 0n },
      { cr0: 0x80000001n, cr4: 0x20n, efer: 0n },
      { cr0: 0x80000001n, cr4: 0x20n, efer: 0x500n },
    ];
    for (const guest of [new NestedNpt(4, "4level"), new NestedEpt()]) {
      for (const mode of modes) {
        const cr3 = 1n << BigInt(guest.vm.state.limits.guestPhysicalBits);
        expect(() => guest.vcpu.enterNested({ ...mode, cr3 }, guest.stage)).toThrow(VmEntryError);
        expect(guest.vcpu.inGuestMode).toBe(false);
      }
      guest.dispose();
    }
  });

  it("of an L2 are refused at its entry with bits of CR4 and EFER that the processor does not have", () => {
    const mode = { cr0: 0x80010001n, cr3: 0n, cr4: 0x20n, efer: 0x500n };
    for (const guest of [new NestedNpt(4, "4level"), new NestedEpt()]) {
      for (const [name, registers] of [
        ["LAM_SUP", { ...mode, cr4: 0x20n | (1n << 28n) }],
        ["LASS", { ...mode, cr4: 0x20n | (1n << 27n) }],
        ["CET", { ...mode, cr4: 0x20n | (1n << 23n) }],
        ["UAIE", { ...mode, efer: 0x500n | (1n << 20n) }],
      ] as const) {
        expect(() => guest.vcpu.enterNested(registers, guest.stage), name).toThrow(VmEntryError);
        expect(() => guest.vcpu.enterNested(registers, guest.stage)).toThrow(new RegExp(name));
        expect(guest.vcpu.inGuestMode).toBe(false);
      }
      guest.dispose();
    }
  });

  it("that RSM or an exit to L1 brings are checked, too, before anything changes", () => {
    const registers = { cr0: 0x80010001n, cr3: 0n, cr4: 0x20n, efer: 0x500n };
    const guest = new NestedNpt(4, "4level");
    const { vcpu } = guest;
    for (const wrong of [
      { ...registers, cr4: 0x20n | (1n << 28n) },
      { ...registers, efer: 0x500n | (1n << 20n) },
      { ...registers, cr3: 1n << BigInt(guest.vm.state.limits.guestPhysicalBits) },
    ]) {
      vcpu.enterNested(registers, guest.stage);
      expect(() => vcpu.exitNested(wrong)).toThrow(GeneralProtectionError);
      expect(vcpu.inGuestMode).toBe(true);
      vcpu.exitNested(registers);
      vcpu.enterSmm();
      expect(() => vcpu.leaveSmm(wrong)).toThrow(GeneralProtectionError);
      expect(vcpu.inSmm).toBe(true);
      vcpu.leaveSmm(registers);
    }
    guest.dispose();
  });

  it("with an EPTP of reserved bits neither enter nor invalidate", () => {
    const guest = new NestedEpt();
    const { stage } = guest;
    if (stage.kind !== "ept") throw new Error("expected EPT");
    for (const bits of [1n << 7n, 1n << 11n, 1n << 51n]) {
      const eptp = stage.eptp | bits;
      expect(() => guest.vcpu.enterNested(guest.vcpu.registers, { ...stage, eptp })).toThrow(ConfigError);
      expect(guest.vcpu.invept(eptp)).toBe(false);
    }
    expect(guest.vcpu.invept(stage.eptp)).toBe(true);
    guest.dispose();
  });
});
