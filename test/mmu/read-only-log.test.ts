/** A read-only slot whose writes are logged: nothing in it is ever written, so its tables stay as they are. */
import { describe, expect, it } from "vitest";
import { type HostPage, VirtualMachine } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { core, Guest, HIGH_SLOT } from "./guest.js";

const HVA = 0x7f80_0000_0000n;
const MIB = 1 << 20;
const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
const host = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0x3ffn), writable: true, level: 2 });

/** Present leaves, as [level, writable]. */
function leavesOf(vm: VirtualMachine): [number, boolean][] {
  return vm.allPages().flatMap(({ role, entries }) => {
    const level = roleLevel(role);
    const leaves = [...entries.values()].filter((spte) => spte & 0x800n && (level === 1 || spte & 0x80n));
    return leaves.map((spte): [number, boolean] => [level, (spte & 2n) !== 0n]);
  });
}

const KINDS = (["npt", "ept"] as const).flatMap((paging) =>
  [false, true].flatMap((tdpMmu) => [0, 1, 3].map((manualDirtyLog) => ({ paging, tdpMmu, manualDirtyLog }))),
);

describe.each(KINDS)("a read-only slot under $paging (TDP MMU: $tdpMmu, manual log $manualDirtyLog)", (kind) => {
  it("keeps its huge pages when logging begins and ends, without a flush, and logs nothing", () => {
    const vm = new VirtualMachine(core(), { ...kind, hostMemory: { pin: host, peek: () => undefined } });
    const slot = { id: 0, gpa: 0n, size: 4 * MIB, ram: vm.createRam(4 * MIB), hva: HVA, readOnly: true };
    vm.setSlot(slot);
    const vcpu = vm.createVcpu(UNPAGED);
    vcpu.enterGuest();
    expect(vcpu.pageFault(0x5000n, 4).result).toBe("fixed");
    expect(leavesOf(vm)).toEqual([[2, false]]);
    const flushes = vm.counter("FLUSHES");
    for (const logDirty of [true, false, true]) {
      vm.setSlot({ ...slot, logDirty });
      expect(leavesOf(vm)).toEqual([[2, false]]);
      expect(vm.counter("FLUSHES")).toBe(flushes);
    }
    // A fault meanwhile maps small pages, read-only all the same; a write is nobody's but the VMM's.
    expect(vcpu.pageFault(0x20_5000n, 4).result).toBe("fixed");
    expect(vcpu.pageFault(0x20_5000n, 7)).toEqual({ result: "emulate" });
    expect(leavesOf(vm).filter(([, writable]) => writable)).toEqual([]);
    if (kind.manualDirtyLog !== 3) expect(vm.getDirtyLog(0)).toEqual([]);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });
});

it("a read-only slot under shadow paging keeps its huge pages when logging begins", () => {
  const guest = new Guest({ hostMemory: { pin: host, peek: () => undefined } });
  const { vm } = guest;
  vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: 0 });
  const slot = { id: 1, gpa: HIGH_SLOT, size: 4 * MIB, ram: guest.high, hva: HVA, readOnly: true };
  vm.setSlot(slot);
  const root = guest.table();
  guest.map(root, 0x4000_0000n, HIGH_SLOT, undefined, 2);
  guest.start("4level", root);
  expect(guest.vcpu.pageFault(0x4000_5000n, 0).result).toBe("fixed");
  const before = leavesOf(vm);
  expect(before.some(([level]) => level === 2)).toBe(true);
  const flushes = vm.counter("FLUSHES");
  for (const logDirty of [true, false]) vm.setSlot({ ...slot, logDirty });
  expect(leavesOf(vm)).toEqual(before);
  expect(vm.counter("FLUSHES")).toBe(flushes);
  guest.dispose();
});
