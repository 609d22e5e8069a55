/** Rules of Linux 6.12 that no recording among the fixtures shows, each beside what 6.1 does. */
import { describe, expect, it } from "vitest";
import { KERNEL_RULES, KERNELS, type Kernel } from "../../src/abi/kernel-rules.js";
import { Access, ConfigError } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { A, bytesOf, core, FULL, Guest, HIGH_SLOT, P, PS, RW, registersOf, US } from "./guest.js";
import { Host } from "./machines/host.js";
import { LARGE_GPA, SMALL_HVA, TdpGuest } from "./tdp-guest.js";

const GVA = 0x4000_0000n;
const DATA = 0x20_0000n;
const TABLE = P | RW | US | A;

/** A guest of four levels that maps page `DATA` at GVA, and its level-1 table at the page behind. */
function shadowGuest(kernel: Kernel) {
  const guest = new Guest({ kernel });
  const root = guest.table();
  guest.map(root, GVA, DATA, FULL, 1);
  guest.start("4level", root);
  return { guest, root };
}

describe("late-unprotect", () => {
  it.each(KERNELS)("Linux %s: a fault during event delivery", (kernel) => {
    const { guest, root } = shadowGuest(kernel);
    guest.map(root, GVA + 0x1000n, root, FULL, 1);
    guest.access(GVA, Access.Read);
    const shadowed = () => guest.vm.pages().some((page) => page.gfn === root >> 12n);
    expect(shadowed()).toBe(true);
    const fault = () => guest.vcpu.pageFault(GVA + 0x1008n, 2, { eventDelivery: true, rip: 0x1000n });
    if (kernel === "6.1") {
      // A read gives the table up as well, here the root itself.
      expect(guest.vcpu.pageFault(GVA + 0x1000n, 0, { eventDelivery: true }).result).toBe("retry");
      expect(shadowed()).toBe(false);
    } else {
      expect(guest.vcpu.pageFault(GVA + 0x1000n, 0, { eventDelivery: true }).result).toBe("fixed");
      expect(shadowed()).toBe(true);
      expect(fault()).toEqual({ result: "retry", writeProtected: true });
      expect(shadowed()).toBe(false);
      // The same instruction at the same address: no second time.
      guest.vcpu.enterGuest();
      guest.access(GVA, Access.Read);
      expect(shadowed()).toBe(true);
      expect(fault()).toEqual({ result: "emulate", writeProtected: true });
      expect(shadowed()).toBe(true);
    }
    guest.dispose();
  });
});

describe("unmap-only", () => {
  it.each(KERNELS)("Linux %s: another page behind an address", (kernel) => {
    const guest = new TdpGuest("npt", { kernel });
    guest.vcpu.enterGuest();
    expect(guest.vcpu.pageFault(0x3000n, 4).result).toBe("fixed");
    guest.vm.changePage(SMALL_HVA + 0x3000n, { pfn: 0x900n, writable: false, level: 1 });
    const mapped = guest.vm.pages().some(({ role, entries }) => roleLevel(role) === 1 && entries.has(3));
    expect(mapped).toBe(kernel === "6.1");
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.dispose();
  });
});

describe("flush-first", () => {
  it.each(KERNELS)("Linux %s: the first entry, and registers that are set from outside", (kernel) => {
    const { guest, root } = shadowGuest(kernel);
    const vcpu = guest.vm.createVcpu(registersOf("4level", root));
    const FLUSH = 4;
    expect(vcpu.state.requests & FLUSH).toBe(kernel === "6.1" ? 0 : FLUSH);
    vcpu.enterGuest();
    expect(vcpu.state.requests & FLUSH).toBe(0);
    vcpu.setRegisters(vcpu.registers);
    expect(vcpu.state.requests & FLUSH).toBe(0);
    vcpu.setRegisters({ ...vcpu.registers, cr4: vcpu.registers.cr4 | 0x80n });
    expect(vcpu.state.requests & FLUSH).toBe(kernel === "6.1" ? 0 : FLUSH);
    guest.dispose();
  });
});

describe("dummy-root", () => {
  it.each(KERNELS)("Linux %s: CR3 in no slot, then a slot there", (kernel) => {
    const { guest, root } = shadowGuest(kernel);
    guest.vcpu.writeCr3(0x9000_0000n);
    expect(guest.vcpu.enterGuest()).toBe(kernel !== "6.1");
    const first = guest.vcpu.pageFault(GVA, 0);
    expect(first.result).toBe(kernel === "6.1" ? "retry" : "inject");
    if (kernel !== "6.1") expect(first).toMatchObject({ errorCode: 0, address: GVA });
    const ram = guest.vm.createRam(0x1000);
    guest.vm.state.core.writeRam(ram, bytesOf(guest.read(root), 8));
    guest.vm.setSlot({ id: 7, gpa: 0x9000_0000n, size: 0x1000, ram, hva: 0x7fa0_0000_0000n });
    // The dummy root is given up at the next fault only.
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    expect(guest.vcpu.enterGuest()).toBe(true);
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("no-self-change", () => {
  it.each(KERNELS)("Linux %s: a write through a large page that holds tables of other walks' only", (kernel) => {
    const guest = new Guest({ host: new Host(), kernel });
    const [root, pdpt, pd] = [5n, 6n, 7n].map((i) => HIGH_SLOT + (i << 12n)) as [bigint, bigint, bigint];
    guest.poke(root, pdpt | TABLE);
    guest.poke(pdpt + 8n, pd | TABLE);
    guest.poke(pd, HIGH_SLOT | FULL | PS);
    guest.start("4level", root);
    guest.access(GVA + 0x10_0000n, Access.Write);
    // Either way small pages: the tables are shadowed when the leaf is made.
    const found = guest.hardware(GVA + 0x10_0000n, Access.Read);
    expect(found.ok && found.pageSize).toBe(4096);
    expect(guest.vcpu.state.core.record.fMaxLevel).toBe(kernel === "6.1" ? 1 : 2);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("split-last", () => {
  it.each(KERNELS)("Linux %s: a cleared range whose last page alone lies in a huge page", (kernel) => {
    const guest = new TdpGuest("npt", { kernel, manualDirtyLog: 3 });
    guest.vcpu.enterGuest();
    expect(guest.vcpu.pageFault(LARGE_GPA, 2).result).toBe("fixed");
    const slot = guest.vm.state.slots.slots.find(({ base }) => base === LARGE_GPA >> 12n)!;
    guest.vm.setSlot({
      ...{ id: slot.id, gpa: LARGE_GPA, size: slot.pages * 4096, hva: slot.hva, ram: slot.core.ramPage * 4096 },
      logDirty: true,
    });
    guest.vm.clearDirtyLog(slot.id, 0, 64, [0]);
    const small = guest.vm.pages().some(({ role, gfn }) => roleLevel(role) === 1 && gfn === LARGE_GPA >> 12n);
    expect(small).toBe(kernel !== "6.1");
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.dispose();
  });
});

describe("recover-unlogged", () => {
  it.each(KERNELS)("Linux %s: a table of the NX mitigation's in a slot that is logged", (kernel) => {
    const guest = new TdpGuest("npt", { kernel, nxHugePages: true });
    guest.vcpu.enterGuest();
    expect(guest.vcpu.pageFault(LARGE_GPA, 16).result).toBe("fixed");
    const table = () => guest.vm.pages().find(({ role, gfn }) => roleLevel(role) === 1 && gfn === LARGE_GPA >> 12n);
    expect(table()?.noHugePage).toBe(true);
    const slot = guest.vm.state.slots.slots.find(({ base }) => base === LARGE_GPA >> 12n)!;
    guest.vm.setSlot({
      ...{ id: slot.id, gpa: LARGE_GPA, size: slot.pages * 4096, hva: slot.hva, ram: slot.core.ramPage * 4096 },
      logDirty: true,
    });
    expect(guest.vm.recoverHugePages(1)).toBe(1);
    expect(table()?.noHugePage).toBe(kernel === "6.1" ? undefined : false);
    expect(guest.vm.recoverHugePages(1)).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.dispose();
  });
});

describe("the kernel of a virtual machine", () => {
  it("is one of the table's, and so are its rules", () => {
    const make = (config: object) => () => new VirtualMachine(core(), config);
    expect(make({ kernel: "5.10" })).toThrow(ConfigError);
    expect(make({ kernelRules: { "no-such-rule": true } })).toThrow(ConfigError);
    expect(make({ kernelRules: { "sync-keeps": 1 } })).toThrow(ConfigError);
  });

  it("switches every rule of the table, and each alone", () => {
    const rulesOf = (config: object): number => {
      const vm = new VirtualMachine(core(), config);
      const { rules } = vm.state.core.vm;
      vm.dispose();
      return rules;
    };
    expect(rulesOf({})).toBe(0);
    expect(rulesOf({ kernel: "6.12" })).toBe(2 ** KERNEL_RULES.length - 1);
    expect(rulesOf({ kernelRules: { "sync-keeps": true } })).toBe(4);
    expect(rulesOf({ kernel: "6.12", kernelRules: { "late-unprotect": false } }) & 1).toBe(0);
  });
});
