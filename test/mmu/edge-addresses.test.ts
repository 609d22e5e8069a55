/** Addresses that the guest's paging mode, the host's processor or the built tables do not have. */
import { describe, expect, it } from "vitest";
import { Access, ConfigError, GeneralProtectionError } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { roleIsPaeRoot } from "../../src/role/index.js";
import { core, Guest, type Mode } from "./guest.js";
import { NestedEpt, NestedNpt } from "./nested-guest.js";

const WIDE = (1n << 32n) + 0x5000n;
const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };

/** Everything that the tables hold. */
const contents = (vm: VirtualMachine) => vm.allPages().map(({ gfn, role, entries }) => [gfn, role, [...entries]]);

describe.each(["nopg", "32", "pae"] as const)("a linear address above 32 bits in mode %s", (mode: Mode) => {
  function started() {
    const guest = new Guest();
    const root = guest.table();
    if (mode !== "nopg") {
      guest.mode = mode;
      guest.map(root, 0x5000n, 0x20_0000n);
    }
    guest.start(mode, root);
    guest.access(0x5000n, Access.Write);
    return guest;
  }

  it.each<[string, (guest: Guest) => unknown]>([
    ["a fault", ({ vcpu }) => vcpu.pageFault(WIDE, 2)],
    ["a fault on an MMIO entry", ({ vcpu }) => vcpu.pageFault(WIDE, 9)],
    ["a fault without an outcome", ({ vcpu }) => vcpu.fault(0x5000, 1, 2)],
    ["a fault in the delivery of an event", ({ vcpu }) => vcpu.pageFault(WIDE, 2, { eventDelivery: true })],
    ["a batch of faults", ({ vcpu }) => vcpu.prefault(BigUint64Array.of(0x6000n, WIDE), new Uint32Array(2), 2)],
    ["a walk", ({ vcpu }) => vcpu.walk(WIDE, 0)],
    ["INVLPG", ({ vcpu }) => vcpu.invlpg(WIDE)],
    ["INVPCID", ({ vcpu }) => vcpu.invpcid(0, 0, WIDE)],
    ["an injected fault", ({ vcpu }) => vcpu.injectFault(1, WIDE)],
  ])("is a ConfigError, with nothing changed: %s", (_what, act) => {
    const guest = started();
    const before = contents(guest.vm);
    expect(() => act(guest)).toThrow(ConfigError);
    expect(contents(guest.vm)).toEqual(before);
    expect(guest.vm.audit()).toEqual([]);
    expect(guest.access(0x5000n, Access.Write)).toBe("ok");
    guest.dispose();
  });
});

it("a linear address above 32 bits is one of L2's own too", () => {
  const guest = new NestedEpt();
  guest.enter();
  expect(() => guest.vcpu.walk(WIDE, 0)).toThrow(ConfigError);
  guest.dispose();
});

describe("the fast calls of a space refuse linear addresses above 32 bits", () => {
  it.each([
    ["no paging", 1n, 0n],
    ["32-bit paging", 0x8000_0001n, 0n],
    ["PAE paging", 0x8000_0001n, 0x20n],
  ])("outside long mode: %s", (_mode, cr0, cr4) => {
    const memory = core().createMemory({ slots: [{ gpa: 0n, size: 0x4000 }] });
    for (const tlbEntries of [0, 16]) {
      const space = core().createAddressSpace(memory, { cr0, cr3: 0x1000n, cr4, efer: 0n, tlbEntries });
      expect(() => space.translateFast(1, 0x5000, 0)).toThrow(ConfigError);
      expect(() => space.invlpg(WIDE)).toThrow(ConfigError);
      expect(() => space.invpcid(0, 0, WIDE)).toThrow(ConfigError);
      for (const at of [0, 1, 510, 511]) {
        const addresses = new BigUint64Array(512);
        addresses[at] = WIDE;
        const output = new BigUint64Array(512).fill(7n);
        expect(() => space.translateBatch(addresses, output)).toThrow(ConfigError);
        expect(() => space.translateBatch(addresses.subarray(0, at + 1), output)).toThrow(ConfigError);
        expect(output.every((one) => one === 7n)).toBe(true);
      }
      expect(space.translateFast(0, 0x5000, 0)).toBeDefined();
      space.dispose();
    }
    memory.dispose();
  });
});

const DIRECT = [
  { paging: "npt", tdpMmu: false, level: 4, bits: 52 },
  { paging: "npt", tdpMmu: true, level: 4, bits: 52 },
  { paging: "ept", tdpMmu: false, level: 4, bits: 46 },
  { paging: "ept", tdpMmu: true, level: 4, bits: 46 },
  { paging: "npt", tdpMmu: true, level: 5, bits: 50 },
  { paging: "npt", tdpMmu: false, level: 3, bits: 40 },
] as const;

describe.each(DIRECT)("$paging of $level levels with $bits address bits (TDP MMU: $tdpMmu)", (kind) => {
  const { paging, tdpMmu, level, bits } = kind;
  const reach = level === 3 ? 32 : Math.min(bits, 12 + 9 * level);

  function started() {
    const vm = new VirtualMachine(core(), {
      paging,
      tdpMmu,
      hostPhysicalBits: bits,
      tdpLevels: { forced: paging === "npt" ? level : 0, max: level === 3 ? 3 : level },
    });
    vm.setSlot({ id: 0, gpa: 0n, size: 0x10_0000, ram: vm.createRam(0x10_0000) });
    const vcpu = vm.createVcpu(UNPAGED);
    vcpu.enterGuest();
    expect(vcpu.pageFault(0x5000n, 6).result).toBe("fixed");
    return { vm, vcpu };
  }

  it.each([4, 6, 0x14, 7, 0xd])("has a fault (%i) beyond its reach emulated and builds nothing", (code) => {
    const { vm, vcpu } = started();
    const before = contents(vm);
    for (const base of [1n << BigInt(reach), 1n << 48n, 1n << 52n, 1n << 63n]) {
      if (base < 1n << BigInt(reach)) continue;
      expect(vcpu.pageFault(base + 0x5000n, code)).toEqual({ result: "emulate" });
      expect(vcpu.fault(0x5000, Number(base >> 32n), code)).toBe(2);
    }
    expect(contents(vm)).toEqual(before);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  it("caches MMIO up to there", () => {
    const { vm, vcpu } = started();
    const last = (1n << BigInt(reach)) - 0x1000n;
    expect(vcpu.pageFault(last, 4).result).toBe("mmio");
    expect(vcpu.pageFault(last, 0xd).result).toBe("mmio");
    expect(
      vm.allPages().some((page) => roleIsPaeRoot(page.role) && [...page.entries.keys()].some((at) => at > 3)),
    ).toBe(false);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });
});

describe.each(["32", "pae"] as const)("an L2 address beyond what L1's NPT in mode %s translates", (mode) => {
  it.each([3, 4, 5] as const)("is L1's fault, and nothing is built (host with %i levels)", (level) => {
    const guest = new NestedNpt(level, mode);
    guest.map(guest.root, 0x5000n, 0x20_0000n);
    guest.enter();
    expect(guest.touch(0x5000n, Access.Write)).toBe(0x200n);
    const before = contents(guest.vm);
    const outcome = guest.vcpu.pageFault(WIDE, 6);
    expect(outcome).toEqual({
      ...{ result: "inject", errorCode: 6, address: WIDE, nested: true },
      exitInfo: (1n << 32n) | 6n,
    });
    expect(contents(guest.vm)).toEqual(before);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a gfn beyond the host's MAXPHYADDR that L1 gives to L2", () => {
  it("is emulated by NPT, and no MMIO entry is made", () => {
    const guest = new NestedNpt(4, "4level", { hostPhysicalBits: 46, guestPhysicalBits: 50 });
    guest.map(guest.root, 0x5000n, 1n << 47n);
    guest.map(guest.root, 0x6000n, 1n << 45n);
    guest.enter();
    const before = contents(guest.vm);
    expect(guest.vcpu.pageFault(0x5000n, 6).result).toBe("emulate");
    expect(contents(guest.vm)).toEqual(before);
    // One within it gets an entry.
    expect(guest.vcpu.pageFault(0x6000n, 6).result).toBe("emulate");
    expect(contents(guest.vm)).not.toEqual(before);
    guest.dispose();
  });
});

describe("INVPCID of a vCPU", () => {
  it.each<[string, number, number, bigint, bigint]>([
    ["an unknown type", 4, 0, 0n, 0n],
    ["a type that is no integer", 0.5, 0, 0n, 0n],
    ["a negative type", -1, 0, 0n, 0n],
    ["a PCID of 13 bits", 1, 4096, 0n, 1n << 17n],
    ["a PCID of one address without CR4.PCIDE", 0, 1, 0n, 0n],
    ["a PCID without CR4.PCIDE", 1, 1, 0n, 0n],
    ["an address that is not canonical", 0, 0, 1n << 47n, 0n],
  ])("refuses %s, with nothing changed", (_what, type, pcid, address, cr4) => {
    const guest = new Guest({ guestLa57: false });
    const root = guest.table();
    guest.map(root, 0x5000n, 0x20_0000n);
    guest.start("4level", root, { cr4 });
    guest.access(0x5000n, Access.Write);
    const before = contents(guest.vm);
    expect(() => guest.vcpu.invpcid(type, pcid, address)).toThrow(GeneralProtectionError);
    guest.vcpu.enterGuest();
    expect(contents(guest.vm)).toEqual(before);
    guest.dispose();
  });

  it("goes by the width of the processor, not of the paging mode", () => {
    for (const [guestLa57, mode, canonical] of [
      [true, "4level", 1n << 47n],
      [true, "4level", (1n << 56n) - 1n],
      [false, "4level", (1n << 47n) - 1n],
    ] as const) {
      const guest = new Guest({ guestLa57 });
      guest.start(mode, guest.table());
      expect(() => guest.vcpu.invpcid(0, 0, canonical)).not.toThrow();
      expect(() => guest.vcpu.invpcid(0, 0, canonical + (guestLa57 ? 1n << 56n : 1n))).toThrow(GeneralProtectionError);
      guest.dispose();
    }
  });

  it("takes what the instruction takes", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.start("5level", root, { cr4: 1n << 17n });
    expect(() => guest.vcpu.invpcid(0, 4095, (1n << 56n) - 1n)).not.toThrow();
    expect(() => guest.vcpu.invpcid(0, 0, 1n << 56n)).toThrow(GeneralProtectionError);
    expect(() => guest.vcpu.invpcid(2, 0, 1n << 63n)).not.toThrow();
    guest.dispose();
  });
});
