/** Memslots: what may be changed, how many there are, and the limit on shadow pages that follows them. */
import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { core, Guest, HIGH_HVA, HIGH_PAGES, HIGH_SLOT } from "./guest.js";

const MIB = 1 << 20;

describe("a slot", () => {
  it.each([
    ["read-only", { readOnly: true }],
    ["the VM's own", { internal: true }],
    ["of another size", { size: HIGH_PAGES * 2048 }],
    ["of other RAM", { ram: 0 }],
    ["of less RAM", { ramSize: 4096 }],
    ["of other host memory", { hva: HIGH_HVA + 4096n }],
  ])("cannot become %s, and stays as it is", (_, change) => {
    const guest = new Guest();
    const slot = { id: 1, gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, ram: guest.high, hva: HIGH_HVA };
    const generation = () => guest.vm.state.slots.generation(0);
    const before = [generation(), guest.vm.readGuest(HIGH_SLOT, 8)];
    expect(() => guest.vm.setSlot({ ...slot, ...change })).toThrow(ConfigError);
    expect([generation(), guest.vm.readGuest(HIGH_SLOT, 8)]).toEqual(before);
    // The same once more is no change.
    guest.vm.setSlot(slot);
    expect(generation()).toBe(before[0]);
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(generation()).not.toBe(before[0]);
    guest.dispose();
  });

  it("is one of 64 in its address space, numbered 0 to 509", () => {
    const vm = new VirtualMachine(core(), {});
    const ram = vm.createRam(4096);
    const add = (addressSpace: number, id: number) =>
      vm.setSlot({ addressSpace, id, gpa: BigInt(id) << 12n, size: 4096, ram });
    for (const space of [0, 1]) {
      for (let id = 446; id < 509; id++) add(space, id);
      expect(() => add(space, 510)).toThrow(ConfigError);
      expect(() => add(space, -1)).toThrow(ConfigError);
      add(space, 509);
      expect(() => add(space, 0)).toThrow(/more than 64/);
    }
    vm.setSlot({ addressSpace: 1, id: 446, gpa: 0n, size: 0 });
    add(1, 0);
    expect(() => add(0, 0)).toThrow(/more than 64/);
    vm.dispose();
  });

  it("ends at the end of the host-virtual addresses, at most", () => {
    const vm = new VirtualMachine(core(), {});
    const ram = vm.createRam(8192);
    const slot = { id: 0, gpa: 0n, size: 8192, ram };
    for (const hva of [(1n << 64n) - 4096n, (1n << 64n) - 8191n, 1n]) {
      expect(() => vm.setSlot({ ...slot, hva })).toThrow(ConfigError);
    }
    vm.setSlot({ ...slot, hva: (1n << 64n) - 8192n });
    vm.dispose();
  });

  it("ends at the last page that the format can map", () => {
    // 46 bits of the host's: gfns below 2^34.
    const vm = new VirtualMachine(core(), { paging: "npt", hostPhysicalBits: 46 });
    const slot = { id: 0, size: 8192, ram: vm.createRam(8192) };
    expect(() => vm.setSlot({ ...slot, gpa: (1n << 46n) - 4096n })).toThrow(/none above 0x3ffffffff/);
    vm.setSlot({ ...slot, gpa: (1n << 46n) - 8192n });
    vm.dispose();
  });
});

describe("the limit on shadow pages", () => {
  it("is one for 50 pages of all slots, at least 64, until somebody sets another", () => {
    const vm = new VirtualMachine(core(), {});
    const ram = vm.createRam(16 * MIB);
    const limit = () => vm.counter("MAX");
    const slot = (id: number, size: number, addressSpace = 0) =>
      vm.setSlot({ addressSpace, id, gpa: BigInt(id) << 32n, size, ram });
    slot(0, 4 * MIB);
    expect(limit()).toBe(64);
    slot(1, 16 * MIB);
    expect(limit()).toBe(Math.floor((5 * 1024) / 50));
    slot(2, 16 * MIB, 1);
    expect(limit()).toBe(Math.floor((9 * 1024) / 50));
    vm.setSlot({ id: 1, gpa: 0n, size: 0 });
    expect(limit()).toBe(Math.floor((5 * 1024) / 50));
    vm.setSlot({ addressSpace: 1, id: 2, gpa: 0n, size: 0 });
    expect(limit()).toBe(64);
    vm.setPageLimit(77);
    slot(1, 16 * MIB);
    expect(limit()).toBe(77);
    vm.dispose();
  });
});
