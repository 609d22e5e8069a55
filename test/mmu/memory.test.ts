/** Running out of memory and of pages: each allocation fails once, and the structures are as before. */
import { describe, expect, it } from "vitest";
import { Access, OutOfMemoryError } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { roleIsDirect, roleLevel } from "../../src/role/index.js";
import { failAfter } from "./fail-after.js";
import { core, FULL, Guest, HIGH_SLOT, MASKS, type Mode, registersOf } from "./guest.js";

const GVA = 0x40_3000n;

/** What must be as before after a failure. */
function structures(guest: Guest) {
  return {
    pages: guest.vm.pages(),
    used: guest.vm.counter("USED"),
    slots: guest.vm.state.slots.slots.map(({ id, base, flags, core }) => ({ id, base, flags, log: core.hasLog })),
    generation: guest.vm.state.slots.generation(0),
    roots: guest.vm.vcpus.map((vcpu) => vcpu.state.rootMmu.roots.pages()),
    audit: guest.vm.audit(),
  };
}

const SCENES: readonly [name: string, mode: Mode, prepare: (guest: Guest) => void, act: (guest: Guest) => void][] = [
  [
    "a new slot",
    "4level",
    () => {},
    (guest) => guest.vm.setSlot({ id: 9, gpa: 0x9000_0000n, size: 0x4000, ram: guest.ram, logDirty: true }),
  ],
  ["a moved slot", "4level", () => {}, (guest) => guest.vm.setSlot({ id: 1, gpa: 0x9000_0000n, size: 4 << 20 })],
  [
    "starting a log",
    "4level",
    () => {},
    (guest) => guest.vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: 4 << 20, logDirty: true }),
  ],
  ["a new vCPU", "4level", () => {}, (guest) => guest.vm.createVcpu(registersOf("pae", 0x10_0000n))],
  ["a first root", "pae", () => {}, (guest) => guest.vm.vcpus[0]!.enterGuest()],
  ["a first root of a 32-bit guest", "32", () => {}, (guest) => guest.vm.vcpus[0]!.enterGuest()],
  ["a fault", "4level", (guest) => guest.vm.vcpus[0]!.enterGuest(), (guest) => guest.vm.vcpus[0]!.pageFault(GVA, 2)],
  [
    "the faults of a whole table",
    "4level",
    (guest) => guest.vm.vcpus[0]!.enterGuest(),
    (guest) => {
      for (let i = 0n; i < 64n; i++) guest.vm.vcpus[0]!.pageFault(0x60_0000n + (i << 30n), 2);
    },
  ],
];

function scene(mode: Mode): Guest {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  guest.map(root, GVA, 0x20_0000n);
  if (mode === "4level") for (let i = 0n; i < 64n; i++) guest.map(root, 0x60_0000n + (i << 30n), 0x20_0000n, FULL);
  guest.vm.createVcpu(registersOf(mode, root));
  return guest;
}

it("faults stock up on whatever they may run out of, of which direct pages take less", () => {
  const guest = new Guest();
  const root = guest.table();
  // The guest's large pages are small ones of the host's: a direct page for each.
  for (let i = 0n; i < 40n; i++) guest.map(root, i << 21n, HIGH_SLOT, FULL, 2);
  const far = Array.from({ length: 20 }, (_, i) => (BigInt(i) + 2n) << 39n);
  for (const gva of far) guest.map(root, gva, 0x20_0000n);
  guest.start("4level", root);
  for (let i = 0n; i < 40n; i++) expect(guest.access(i << 21n, Access.Write)).toBe("ok");
  guest.vm.setSlot({ id: 9, gpa: 0x9000_0000n, size: 0x1000, ram: guest.ram });
  guest.vm.setSlot({ id: 9, gpa: 0x9000_0000n, size: 0 });
  for (const gva of far) expect(guest.access(gva, Access.Write)).toBe("ok");
  const tables = guest.vm.pages().filter(({ role }) => roleLevel(role) === 1 && !roleIsDirect(role));
  expect(tables).toHaveLength(far.length);
  expect(tables.filter(({ shadowed }) => shadowed.size === 0)).toEqual([]);
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});

it.each(["32", "pae"] as const)("a lower limit takes a directory with the unsync tables below it (%s)", (mode) => {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  const leaf = guest.map(root, GVA, 0x20_0000n);
  // Another directory, for the table is to be the first page after its own.
  const window = mode === "pae" ? 0x8000_0000n : 0xc000_0000n;
  guest.map(root, window, leaf & ~0xfffn);
  guest.start(mode, root);
  expect(guest.access(GVA, Access.Write)).toBe("ok");
  expect(guest.write(window + (leaf & 0xfffn), leaf, 0x20_7000n | FULL)).toBe("ok");
  expect(guest.vm.pages().filter((page) => page.unsync)).toHaveLength(1);
  for (let i = 0n; i < 90n; i++) {
    const gva = 0x1000_0000n + (i << (mode === "pae" ? 21n : 22n));
    guest.map(root, gva, 0x20_0000n);
    expect(guest.access(gva, Access.Read)).toBe("ok");
  }
  guest.vm.setPageLimit(64);
  expect(guest.vm.counter("USED")).toBe(guest.vm.pages().filter((page) => (page.role & 0xc0000) === 0).length);
  expect(guest.vm.audit()).toEqual([]);
  expect(guest.access(GVA, Access.Write)).toBe("ok");
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});

describe("memory exhaustion", () => {
  it.each(SCENES)("during %s leaves the structures as before, at every allocation", (name, mode, prepare, act) => {
    let failures = 0;
    for (let count = 0; ; count++) {
      const guest = scene(mode);
      prepare(guest);
      const before = structures(guest);
      const { linear } = core().internals();
      const free = linear.freeBytes;
      const injection = failAfter(guest, count);
      let thrown: unknown;
      try {
        act(guest);
      } catch (error) {
        thrown = error;
      }
      injection.undo();
      if (!injection.hit()) {
        expect(thrown).toBeUndefined();
        guest.dispose();
        break;
      }
      failures++;
      expect(thrown).toBeInstanceOf(OutOfMemoryError);
      if (name !== "the faults of a whole table") expect(structures(guest)).toEqual(before);
      // What a slot would have is given back; faults keep what they have in stock.
      if (/slot|log/.test(name)) expect(linear.freeBytes).toBe(free);
      expect(guest.vm.audit()).toEqual([]);
      // The same works once there is memory again.
      act(guest);
      expect(guest.vm.audit()).toEqual([]);
      guest.dispose();
    }
    expect(failures).toBeGreaterThan(0);
  });

  it("of a VM that is being made gives everything back", () => {
    const { linear } = core().internals();
    new Guest().dispose();
    const before = linear.freeBytes;
    for (let count = 0; ; count++) {
      const injection = failAfter({ vm: { state: { core: { internals: { linear } } } } }, count);
      let vm: VirtualMachine | undefined;
      try {
        vm = new VirtualMachine(core(), {
          masks: MASKS,
          hostPhysicalBits: 46,
          defaultPaePdpte: true,
          eventCapacity: 16,
        });
      } catch (error) {
        expect(error).toBeInstanceOf(OutOfMemoryError);
      }
      injection.undo();
      if (vm !== undefined) {
        vm.dispose();
        break;
      }
      expect(linear.freeBytes).toBe(before);
    }
    expect(linear.freeBytes).toBe(before);
  });
});

describe("the hot path", () => {
  it("makes no host call unless a shadow page is needed", () => {
    const guest = new Guest();
    const root = guest.table();
    for (let i = 0n; i < 512n; i++) guest.map(root, 0x4000_0000n + (i << 12n), 0x20_0000n + ((i & 0xffn) << 12n));
    const vcpu = guest.start("4level", root);
    const { stats } = guest.vm;
    expect(guest.access(0x4000_0000n, Access.Write)).toBe("ok");
    // One for each of the three tables below the root.
    expect(stats.hostCalls).toBe(3);
    for (let i = 8; i < 512; i += 8) vcpu.fault(0x4000_0000 + i * 4096, 0, 2);
    expect(guest.hardware(0x4000_0000n + (504n << 12n), Access.Write).ok).toBe(true);
    expect(stats.hostCalls).toBe(3);
    guest.dispose();
  });

  it("records no events unless asked to", () => {
    const guest = new Guest();
    guest.vm.events.sink = () => {
      throw new Error("an event");
    };
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    guest.start("4level", root);
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    expect(guest.vm.state.core.vm.eventCount).toBe(0);
    guest.dispose();
  });

  it("gives the kernel's events in their order when asked to", () => {
    const guest = new Guest({ eventCapacity: 256 });
    const seen: string[] = [];
    guest.vm.events.sink = (event) => seen.push(event.ev);
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n, FULL & ~0x60n);
    guest.start("4level", root);
    expect(seen).toEqual(["kvm_mmu_get_page"]);
    seen.length = 0;
    guest.vcpu.pageFault(GVA, 2);
    expect(seen).toEqual([
      "kvm_mmu_pagetable_walk",
      ...Array.from({ length: 4 }, () => "kvm_mmu_paging_element"),
      "kvm_mmu_set_accessed_bit",
      "kvm_mmu_set_dirty_bit",
      ...Array.from({ length: 3 }, () => "kvm_mmu_get_page"),
      "kvm_mmu_spte_requested",
      "kvm_mmu_set_spte",
    ]);
    guest.dispose();
  });

  it("counts and reports events that found no room, and goes on", () => {
    const guest = new Guest({ eventCapacity: 2 });
    const seen: string[] = [];
    let lost = 0;
    guest.vm.events.sink = (event) => {
      seen.push(event.ev);
      if (event.ev === "lost_events") lost += event.count;
    };
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    guest.start("4level", root);
    seen.length = 0;
    expect(guest.vcpu.pageFault(GVA, 2)).toEqual({ result: "fixed" });
    expect(seen).toEqual(["kvm_mmu_pagetable_walk", "kvm_mmu_paging_element", "lost_events"]);
    // Three elements, three pages, a request and the SPTE.
    expect(lost).toBe(8);
    expect(guest.vm.events.lost).toBe(8);
    // The next operation has the whole buffer again, and loses nothing.
    seen.length = 0;
    expect(guest.vcpu.pageFault(GVA, 2).result).not.toBe("inject");
    expect(seen.slice(0, 2)).toEqual(["kvm_mmu_pagetable_walk", "kvm_mmu_paging_element"]);
    guest.dispose();
  });

  it("counts lost events where nobody listens", () => {
    const guest = new Guest({ eventCapacity: 2 });
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    guest.start("4level", root);
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    expect(guest.vm.events.lost).toBe(8);
    guest.dispose();
  });

  it("keeps the rest of the events of a sink that throws", () => {
    const guest = new Guest({ eventCapacity: 256 });
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    guest.map(root, GVA + 0x1000n, 0x20_1000n);
    guest.start("4level", root);
    const seen: string[] = [];
    let failing = true;
    guest.vm.events.sink = (event) => {
      seen.push(event.ev);
      if (failing && event.ev === "kvm_mmu_paging_element") throw new Error("the log is full");
    };
    expect(() => guest.vcpu.pageFault(GVA, 2)).toThrow("the log is full");
    expect(seen).toEqual(["kvm_mmu_pagetable_walk", "kvm_mmu_paging_element"]);
    failing = false;
    expect(guest.vcpu.pageFault(GVA + 0x1000n, 2)).toEqual({ result: "fixed" });
    const of = (name: string) => seen.filter((one) => one === name).length;
    expect([of("kvm_mmu_pagetable_walk"), of("kvm_mmu_paging_element"), of("kvm_mmu_set_spte")]).toEqual([2, 8, 2]);
    guest.dispose();
  });

  it("passes on what a sink's own use of the VM records after what it is passing on", () => {
    const guest = new Guest({ eventCapacity: 256 });
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    guest.start("4level", root);
    const seen: string[] = [];
    let nested = false;
    guest.vm.events.sink = (event) => {
      seen.push(event.ev);
      if (nested) return;
      nested = true;
      guest.vcpu.walk(GVA, 0);
    };
    guest.vcpu.pageFault(GVA, 2);
    expect(seen.lastIndexOf("kvm_mmu_set_spte")).toBeLessThan(seen.lastIndexOf("kvm_mmu_pagetable_walk"));
    expect(seen.filter((one) => one === "kvm_mmu_paging_element")).toHaveLength(8);
    expect(seen.filter((one) => one === "kvm_mmu_pagetable_walk")).toHaveLength(2);
    guest.dispose();
  });
});
