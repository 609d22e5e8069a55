/** The host puts another page behind a part of what a leaf maps, or says what no host can have. */
import { describe, expect, it } from "vitest";
import { Access, ConfigError } from "../../src/index.js";
import { type HostPage, type VirtualMachine, VirtualMachine as Vm } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { core, Guest, HIGH_HVA, HIGH_SLOT } from "./guest.js";
import { LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const AT = 0x20_5000n;
const REGISTERS = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** Present, to this engine. */
const PRESENT = 1n << 11n;

/** Frames of a host with pages of 2 MiB. */
const frameOf = (hva: bigint) => 0x10_0000n + ((hva >> 12n) & 0x3ffn);

const HVA = 0x7f40_0000_0000n;

/** A VM with one slot of 4 MiB, which the host holds in two large pages. */
function large(config: { paging: "npt" | "ept"; tdpMmu: boolean; rangedFlush?: boolean }) {
  const vm = new Vm(core(), {
    ...config,
    hostMemory: {
      pin: (hva) => ({ pfn: frameOf(hva), writable: true, level: 2 }),
      peek: () => undefined,
    },
  });
  vm.setSlot({ id: 0, gpa: 0n, size: 4 << 20, ram: vm.createRam(4 << 20), hva: HVA });
  const vcpu = vm.createVcpu(REGISTERS);
  vcpu.enterGuest();
  return { vm, vcpu };
}

/** Leaves that map a part of the block at `gfn`, as [level, frame]. */
function leavesOf(vm: VirtualMachine): [number, bigint][] {
  return vm.allPages().flatMap(({ role, entries }) => {
    const level = roleLevel(role);
    return [...entries.values()]
      .filter((spte) => spte & PRESENT && (level === 1 || spte & 0x80n))
      .map((spte): [number, bigint] => [level, (spte & ADDRESS) >> 12n]);
  });
}

const KINDS = (["npt", "ept"] as const).flatMap((paging) => [false, true].map((tdpMmu) => ({ paging, tdpMmu })));

describe.each(KINDS)("a page behind a part of a huge leaf ($paging, TDP MMU: $tdpMmu)", (kind) => {
  it.each([true, false])("takes the leaf away and has it flushed (writable: %s)", (writable) => {
    const { vm, vcpu } = large({ ...kind, rangedFlush: true });
    expect(vcpu.pageFault(AT, 2).result).toBe("fixed");
    expect(leavesOf(vm)).toEqual([[2, frameOf(HVA + 0x20_0000n)]]);
    vm.takeFlushes();
    vm.changePage(HVA + AT, { pfn: 0x777n, writable, level: 1 });
    expect(leavesOf(vm)).toEqual([]);
    expect(vm.takeFlushes()).toEqual([{ gfn: 0x200n, pages: 512n }]);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  it("leaves the other huge leaves as they are", () => {
    const { vm, vcpu } = large(kind);
    vcpu.pageFault(AT, 2);
    vcpu.pageFault(0x1000n, 2);
    vm.changePage(HVA + AT, { pfn: 0x777n, writable: false, level: 1 });
    expect(leavesOf(vm)).toEqual([[2, frameOf(HVA)]]);
    vm.dispose();
  });

  it.each<[string, HostPage]>([
    ["a level that no page has", { pfn: 0x777n, writable: true, level: 4 }],
    ["a huge page, which is unmapped first", { pfn: 0x600n, writable: true, level: 2 }],
    ["a frame beyond the host's MAXPHYADDR", { pfn: 1n << 34n, writable: true, level: 1 }],
    ["a negative frame", { pfn: -1n, writable: true, level: 1 }],
  ])("is refused as %s, with nothing changed", (_what, page) => {
    const { vm, vcpu } = large(kind);
    vcpu.pageFault(AT, 2);
    const before = leavesOf(vm);
    expect(() => vm.changePage(HVA + AT, page)).toThrow(ConfigError);
    expect(leavesOf(vm)).toEqual(before);
    vm.dispose();
  });
});

describe("a page behind a part of a huge leaf", () => {
  it("takes it away under shadow paging", () => {
    const guest = new Guest({
      hostMemory: {
        pin: (hva) => ({ pfn: frameOf(hva), writable: true, level: hva >= HIGH_HVA ? 2 : 1 }),
        peek: () => undefined,
      },
    });
    const root = guest.table();
    guest.map(root, 0x4000_0000n, HIGH_SLOT, undefined, 2);
    guest.start("4level", root);
    expect(guest.access(0x4000_5000n, Access.Write)).toBe("ok");
    expect(leavesOf(guest.vm)).toContainEqual([2, frameOf(HIGH_HVA)]);
    guest.vm.changePage(HIGH_HVA + 0x5000n, { pfn: 0x777n, writable: false, level: 1 });
    expect(leavesOf(guest.vm)).toEqual([]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each(["ept", "npt"] as const)("is mapped small by the next fault where the host says so (%s)", (format) => {
    const guest = new TdpGuest(format);
    guest.access(LARGE_GPA + 0x5000n, "write");
    const hva = guest.hva(LARGE_GPA + 0x5000n);
    guest.shared.add(hva);
    guest.split(hva);
    guest.vm.changePage(hva, { pfn: guest.moveFrame(hva), writable: false, level: 1 });
    expect(guest.leaf(LARGE_GPA + 0x5000n)).toBeUndefined();
    expect(guest.access(LARGE_GPA + 0x5000n, "read")).toBe("ok");
    const leaf = guest.leaf(LARGE_GPA + 0x5000n)!;
    expect([leaf.level, (leaf.spte & ADDRESS) >> 12n, leaf.spte & 2n]).toEqual([1, guest.frame(hva), 0n]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("of level 1 is changed in place in the TDP MMU", () => {
    const guest = new TdpGuest("ept");
    guest.access(0x3000n, "write");
    guest.vm.changePage(guest.hva(0x3000n), { pfn: 0x777n, writable: false, level: 1 });
    const leaf = guest.leaf(0x3000n)!;
    expect([leaf.level, (leaf.spte & ADDRESS) >> 12n, leaf.spte & 2n]).toEqual([1, 0x777n, 0n]);
    guest.dispose();
  });
});

describe("a host page that no host can have", () => {
  it.each<[string, HostPage]>([
    ["level 2 with other low bits than its address", { pfn: 0x777n, writable: true, level: 2 }],
    ["level 3 with other low bits than its address", { pfn: 0x205n, writable: true, level: 3 }],
    ["level 0", { pfn: 0x205n, writable: true, level: 0 }],
    ["a frame beyond MAXPHYADDR", { pfn: 1n << 40n, writable: true, level: 1 }],
  ])("is refused in a fault: %s", (_what, page) => {
    const vm = new Vm(core(), { paging: "ept", hostMemory: { pin: () => page, peek: () => undefined } });
    vm.setSlot({ id: 0, gpa: 0n, size: 4 << 20, ram: vm.createRam(4 << 20), hva: HVA + (1n << 21n) });
    const vcpu = vm.createVcpu(REGISTERS);
    vcpu.enterGuest();
    expect(() => vcpu.pageFault(AT, 2)).toThrow(ConfigError);
    expect(leavesOf(vm)).toEqual([]);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  it.each([
    ["a misaligned hva", { hva: HVA + 0x10n }],
    ["a negative hva", { hva: -0x1000n }],
    ["an hva whose end is beyond 64 bits", { hva: (1n << 64n) - 0x1000n }],
    ["an address beyond the host's MAXPHYADDR", { gpa: 1n << 46n }],
    ["an end beyond the host's MAXPHYADDR", { gpa: (1n << 46n) - 0x1000n }],
    ["a negative address", { gpa: -0x1000n }],
  ])("is refused as a slot: %s", (_what, change) => {
    const vm = new Vm(core(), { paging: "ept" });
    const slot = { id: 0, gpa: 0n, size: 0x2000, ram: vm.createRam(0x2000), hva: HVA };
    const generation = vm.state.slots.generation(0);
    expect(() => vm.setSlot({ ...slot, ...change })).toThrow(ConfigError);
    expect([vm.state.slots.slots.length, vm.state.slots.generation(0)]).toEqual([0, generation]);
    vm.dispose();
  });
});

const CANARY = 64;

describe("what the host said in a fault before its page changed", () => {
  /** A host whose pages move while it is asked for one. */
  function racing(change: (vm: VirtualMachine, hva: bigint) => void) {
    let race = false;
    const moved = new Set<bigint>();
    const frame = (hva: bigint) => frameOf(hva) + (moved.has(hva) ? 0x1000n : 0n);
    const vm: VirtualMachine = new Vm(core(), {
      paging: "npt",
      hostMemory: {
        pin: (hva) => {
          const page = { pfn: frame(hva), writable: true, level: 1 };
          if (race) {
            race = false;
            moved.add(hva);
            change(vm, hva);
          }
          return page;
        },
        peek: () => undefined,
      },
    });
    const slot = { id: 0, gpa: 0n, size: 0x8000, ram: vm.createRam(0x8000), hva: HVA };
    vm.setSlot(slot);
    const vcpu = vm.createVcpu({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n });
    vcpu.enterGuest();
    return { vm, vcpu, slot, frame, start: () => (race = true) };
  }

  it.each([
    ["unmapped", (vm: VirtualMachine, hva: bigint) => vm.unmapRange(hva, hva + 0x1000n)],
    [
      "changed",
      (vm: VirtualMachine, hva: bigint) =>
        vm.changePage(hva, { pfn: frameOf(hva) + 0x1000n, writable: true, level: 1 }),
    ],
  ])("is neither mapped then nor ahead of a later fault: %s", (_what, change) => {
    const { vm, vcpu, frame, start } = racing(change);
    start();
    expect(vcpu.pageFault(0n, 4).result).toBe("retry");
    expect(leavesOf(vm)).toEqual([]);
    // The neighbours of this page are mapped ahead as far as the host's pages are known.
    expect(vcpu.pageFault(0x1000n, 4).result).toBe("fixed");
    const known = [frame(HVA), frame(HVA + 0x1000n)];
    expect(leavesOf(vm).every(([, one]) => known.includes(one))).toBe(true);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  it.each([
    ["deletes the slot", { size: 0 }],
    ["moves the slot", { gpa: 0x10_0000n }],
  ])("is nothing where it %s", (_what, change) => {
    const canaries: number[] = [];
    const { vm, vcpu, slot, start } = racing((one) => {
      one.setSlot({ ...slot, ...change });
      // Some of them lie where the slot's records were; whoever takes them for those is led to the first.
      const { linear } = one.state.core.internals;
      for (let i = 0; i < 256; i++) canaries.push(linear.allocate(CANARY));
      for (const at of canaries) linear.u32.fill(canaries[0]!, at / 4, (at + CANARY) / 4);
    });
    start();
    expect(vcpu.pageFault(0x3000n, 4).result).toBe("retry");
    const { linear } = vm.state.core.internals;
    for (const at of canaries) {
      expect(linear.u32.subarray(at / 4, (at + CANARY) / 4).every((word) => word === canaries[0])).toBe(true);
      linear.free(at, CANARY);
    }
    vcpu.enterGuest();
    expect(vcpu.pageFault(0x3000n, 4).result).toBe("mmio");
    expect(leavesOf(vm)).toEqual([]);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });
});

it.each(["npt", "ept"] as const)(
  "a page that is small in one root and part of a huge one in another: all of that is flushed (%s)",
  (format) => {
    const guest = new TdpGuest(format, { nxHugePages: true, rangedFlush: true });
    // Code runs here: a small page.
    expect(guest.access(LARGE_GPA, "exec")).toBe("ok");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(1);
    guest.toggleNested();
    expect(guest.access(LARGE_GPA, "read")).toBe("ok");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    guest.vm.takeFlushes();
    const hva = guest.hva(LARGE_GPA);
    guest.vm.changePage(hva, { pfn: guest.moveFrame(hva), writable: false, level: 1 });
    expect(guest.vm.takeFlushes()).toEqual([{ gfn: LARGE_GPA >> 12n, pages: 512n }]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  },
);
