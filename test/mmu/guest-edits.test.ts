/** The guest's tables change while the host is asked for a page: another vCPU edits them behind a fault's back. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { type HostPage, VirtualMachine } from "../../src/mmu/index.js";
import { bytesOf, core, Guest, type Mode, registersOf } from "./guest.js";
import { NestedNpt } from "./nested-guest.js";

const GVA = 0x40_3000n;
const OLD = 0x20_0000n;
const NEW = 0x30_0000n;
const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** Frames of the host: RAM's page number, far up. */
const page = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0xf_ffffn), writable: true, level: 1 });

/** A host in whose next look-up of a page something happens. */
function racingHost() {
  let edit: (() => void) | undefined;
  const pin = (hva: bigint) => {
    const now = edit;
    edit = undefined;
    now?.();
    return page(hva);
  };
  return { memory: { pin, peek: () => undefined }, editInPin: (act: () => void) => (edit = act) };
}

function racing(mode: Mode) {
  const host = racingHost();
  const guest = new Guest({
    hostMemory: host.memory,
  });
  guest.mode = mode;
  const root = guest.table();
  guest.map(root, GVA, OLD);
  // The same tables once more, down to another page.
  const other = guest.table();
  guest.map(other, GVA, NEW);
  guest.start(mode, root);
  const second = guest.vm.createVcpu(registersOf(mode, root));
  second.enterGuest();
  return { guest, root, other, second, editInPin: host.editInPin };
}

/** Address of the entry for GVA at `level`. */
function entryAt(guest: Guest, root: bigint, level: number): bigint {
  let table = root;
  for (let at = guest.levels(); at > level; at--) table = guest.read(guest.entryAddress(table, GVA, at)) & ADDRESS;
  return guest.entryAddress(table, GVA, level);
}

/** The page behind GVA in the shadow tables, undefined for none. */
function reached(guest: Guest): bigint | undefined {
  const found = guest.hardware(GVA, Access.Read | Access.Probe);
  return found.ok ? guest.gfnOf(found.pa)! << 12n : undefined;
}

const CASES: readonly [mode: Mode, level: number][] = [
  ...([1, 2, 3, 4, 5] as const).map((level) => ["5level", level] as [Mode, number]),
  ...([1, 2, 3, 4] as const).map((level) => ["4level", level] as [Mode, number]),
  ["pae", 1],
  ["pae", 2],
  ["32", 1],
  ["32", 2],
];

describe.each(CASES)("in mode %s an entry of level %i that changes while the host looks a page up", (mode, level) => {
  it.each([
    ["with no table shadowed yet", false],
    ["with the tables shadowed", true],
  ])("makes the fault retry, %s", (_what, warm) => {
    const { guest, root, other, second, editInPin } = racing(mode);
    if (warm) {
      // A neighbour's fault has shadowed every table.
      guest.map(root, GVA + 0x1000n, 0x38_0000n);
      expect(guest.access(GVA + 0x1000n, Access.Read)).toBe("ok");
    }
    const at = entryAt(guest, root, level);
    const entry = guest.read(entryAt(guest, other, level));
    editInPin(() => second.emulatedWrite(at, bytesOf(entry, guest.entryBytes)));
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    guest.vcpu.enterGuest();
    expect(reached(guest)).not.toBe(OLD);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(reached(guest)).toBe(NEW);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe.each([3, 4, 5] as const)("a page-directory pointer of L1's PAE NPT on a host of %i levels", (level) => {
  it("that changes while the host looks a page up makes the fault retry: such pointers are read in each walk", () => {
    const host = racingHost();
    const guest = new NestedNpt(level, "pae", {
      hostMemory: host.memory,
    });
    guest.map(guest.root, GVA, OLD);
    // A neighbour's fault has shadowed every table.
    guest.map(guest.root, GVA + 0x1000n, 0x38_0000n);
    const { cr4, efer } = registersOf("pae", 0n);
    const second = guest.vm.createVcpu({ cr0: 0x8000_0001n, cr3: 0n, cr4, efer });
    second.enterGuest();
    guest.enter();
    expect(guest.touch(GVA + 0x1000n, Access.Read | Access.User)).toBe(0x380n);
    host.editInPin(() => second.emulatedWrite(guest.root, bytesOf(0n, 8)));
    expect(guest.vcpu.pageFault(GVA, 4).result).toBe("retry");
    guest.vcpu.enterGuest();
    for (const at of [GVA, GVA + 0x1000n])
      expect(guest.second(at, Access.Read | Access.User | Access.Probe).ok).toBe(false);
    expect(guest.vcpu.pageFault(GVA, 4)).toMatchObject({ result: "inject", nested: true, errorCode: 4 });
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

it("an entry that is gone meanwhile makes the next fault the guest's", () => {
  const { guest, root, second, editInPin } = racing("4level");
  const leaf = entryAt(guest, root, 1);
  editInPin(() => second.emulatedWrite(leaf, bytesOf(0n, 8)));
  expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
  expect(guest.vcpu.pageFault(GVA, 0)).toMatchObject({ result: "inject", errorCode: 0 });
  guest.dispose();
});

describe("faults of another vCPU while the host looks a page up", () => {
  it.each(["32", "pae", "4level", "5level"] as const)("leave the first fault its memory (mode %s)", (mode) => {
    const { guest, root, second, editInPin } = racing(mode);
    const far = Array.from({ length: 12 }, (_, i) => 0x1000_0000n + (BigInt(i) << (mode === "32" ? 22n : 21n)));
    for (const gva of far) guest.map(root, gva, NEW);
    editInPin(() => {
      for (const gva of far) expect(second.pageFault(gva, 0).result).toBe("fixed");
    });
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    expect(reached(guest)).toBe(OLD);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each([false, true])("leave it its memory under two-dimensional paging (TDP MMU: %s)", (tdpMmu) => {
    let meanwhile: (() => void) | undefined;
    const vm: VirtualMachine = new VirtualMachine(core(), {
      paging: "ept",
      tdpMmu,
      hostMemory: {
        pin: (hva) => {
          const now = meanwhile;
          meanwhile = undefined;
          now?.();
          return page(hva);
        },
        peek: () => undefined,
      },
    });
    // A slot in each of many blocks of 1 GiB, all on the same memory.
    const ram = vm.createRam(0x1000);
    const gpas = Array.from({ length: 7 }, (_, i) => BigInt(i) << (i < 7 ? 39n : 30n));
    gpas.forEach((gpa, id) => {
      vm.setSlot({ id, gpa, size: 0x1000, ram });
    });
    const [first, second] = [vm.createVcpu(UNPAGED), vm.createVcpu(UNPAGED)];
    for (const vcpu of [first, second]) vcpu.enterGuest();
    meanwhile = () => {
      for (const gpa of gpas.slice(1)) expect(second.pageFault(gpa, 6).result).toBe("fixed");
    };
    expect(first.pageFault(0n, 6).result).toBe("fixed");
    expect(vm.allPages().every(({ table }) => table !== 0)).toBe(true);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });
});
