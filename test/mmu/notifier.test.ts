/** What the host's notifier, the dirty log and memslots do to a guest's mappings. */
import { describe, expect, it } from "vitest";
import { Access, loadSync, MemoryRangeError } from "../../src/index.js";
import type { HostPage, SlotConfig } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { bytesOf, FULL, Guest, HIGH_HVA, HIGH_SLOT, RAM_PAGES } from "./guest.js";

const GVA = 0x40_3000n;
const PAGE = 0x20_0000n;
const HVA = 0x7f00_0000_0000n;

function started(config = {}) {
  const guest = new Guest(config);
  const root = guest.table();
  for (let i = 0n; i < 16n; i++) guest.map(root, GVA + (i << 12n), PAGE + (i << 12n));
  guest.start("4level", root);
  return { guest, root };
}

const leafPage = (guest: Guest) => guest.vm.pages().find((page) => roleLevel(page.role) === 1)!;

describe("the host notifier", () => {
  it("takes every translation of an unmapped range away", () => {
    const { guest } = started();
    for (let i = 0n; i < 8n; i++) guest.access(GVA + (i << 12n), Access.Write);
    guest.vm.unmapRange(HVA + PAGE + 0x1000n, HVA + PAGE + 0x3000n);
    const mapped = [0n, 1n, 2n, 3n].map((i) => guest.hardware(GVA + (i << 12n), Access.Read).ok);
    expect(mapped).toEqual([true, false, false, true]);
    expect(guest.access(GVA + 0x1000n, Access.Read)).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("takes a page away of which the range has any part", () => {
    const { guest } = started();
    for (let i = 0n; i < 8n; i++) guest.access(GVA + (i << 12n), Access.Write);
    guest.vm.unmapRange(HVA + PAGE + 0x1fffn, HVA + PAGE + 0x2001n);
    const mapped = [0n, 1n, 2n, 3n].map((i) => guest.hardware(GVA + (i << 12n), Access.Read).ok);
    expect(mapped).toEqual([true, false, false, true]);
    guest.dispose();
  });

  it("makes a fault retry whose look-up it ran into", () => {
    let races = 0;
    const guest: Guest = new Guest({
      hostMemory: {
        pin: (hva) => {
          if (races-- > 0) guest.vm.unmapRange(hva, hva + 0x1000n);
          return { pfn: 0x10_0000n + ((hva & 0xffff_ffffn) >> 12n), writable: true, level: 1 };
        },
        peek: () => undefined,
      },
    });
    const root = guest.table();
    guest.map(root, GVA, PAGE);
    guest.start("4level", root);
    races = 1;
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    expect(guest.hardware(GVA, Access.Read).ok).toBe(false);
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    guest.dispose();
  });

  it("changes the page behind an address, which is read-only until the next fault", () => {
    const { guest } = started();
    guest.access(GVA, Access.Write);
    const page: HostPage = { pfn: 0x30_0000n, writable: false, level: 1 };
    guest.vm.changePage(HVA + PAGE, page);
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok && found.pa >> 12n).toBe(0x30_0000n);
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    guest.vm.changePage(HVA + PAGE, { ...page, writable: true });
    expect(guest.hardware(GVA, Access.Read).ok).toBe(false);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("answers whether a page was accessed, and forgets it when ageing", () => {
    const { guest } = started();
    guest.access(GVA, Access.Read);
    const range = [HVA + PAGE, HVA + PAGE + 0x1000n] as const;
    expect(guest.vm.testAge(...range)).toBe(true);
    expect(guest.vm.age(...range)).toBe(true);
    expect(guest.vm.testAge(...range)).toBe(false);
    expect(guest.vm.age(...range)).toBe(false);
    guest.dispose();
  });
});

describe("prefetching", () => {
  it("maps the rest of a block of eight up to the first unusable entry, without the accessed bit", () => {
    const { guest, root } = started();
    for (let i = 0n; i < 10n; i++) guest.map(root, 0x60_0000n + (i << 12n), PAGE + (i << 12n));
    guest.map(root, 0x61_0000n, PAGE);
    guest.map(root, 0x61_2000n, PAGE);
    guest.access(0x60_0000n, Access.Write);
    const mapped = (gva: bigint) => guest.hardware(gva, Access.Read).ok;
    expect(Array.from({ length: 10 }, (_, i) => mapped(0x60_0000n + (BigInt(i) << 12n)))).toEqual([
      ...Array.from({ length: 8 }, () => true),
      false,
      false,
    ]);
    expect(guest.vm.testAge(HVA + PAGE + 0x1000n, HVA + PAGE + 0x2000n)).toBe(false);
    guest.access(0x61_0000n, Access.Write);
    expect([0x61_0000n, 0x61_1000n, 0x61_2000n].map(mapped)).toEqual([true, false, false]);
    guest.dispose();
  });

  it("leaves pages alone that the host does not have, or whose writes are logged", () => {
    const { guest, root } = started();
    const first = GVA + 0x5000n;
    const mapped = () => guest.hardware(first + 0x1000n, Access.Read).ok;
    guest.vm.unmapRange(HVA + PAGE + 0x6000n, HVA + PAGE + 0x7000n);
    guest.access(first, Access.Write);
    expect(mapped()).toBe(false);
    guest.access(first + 0x1000n, Access.Read);
    guest.vm.unmapRange(HVA + PAGE + 0x5000n, HVA + PAGE + 0x6000n);
    guest.access(first, Access.Write);
    expect(mapped()).toBe(true);
    guest.vm.setSlot({ id: 0, gpa: 0n, size: RAM_PAGES * 4096, logDirty: true });
    guest.vm.unprotectGfn(guest.map(root, first, PAGE + 0x5000n) >> 12n);
    guest.access(first, Access.Write);
    expect(mapped()).toBe(false);
    guest.dispose();
  });
});

describe("the dirty log", () => {
  const slot = { id: 0, gpa: 0n, size: RAM_PAGES * 4096 };

  it("holds what was written since it was last read, by access, by emulation and by table updates", () => {
    const { guest, root } = started();
    guest.vm.setSlot({ ...slot, logDirty: true });
    guest.access(GVA, Access.Write);
    guest.access(GVA + 0x1000n, Access.Read);
    expect(guest.vm.getDirtyLog(0)).toContain(0x200);
    expect(guest.vm.getDirtyLog(0)).toEqual([]);
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    guest.access(GVA, Access.Write);
    guest.vcpu.emulatedWrite(root, guest.vm.readGuest(root, 8)!);
    expect(guest.vm.getDirtyLog(0)).toEqual([Number(root >> 12n), 0x200]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("with manual protect keeps what is not cleared", () => {
    const { guest } = started({ manualDirtyLog: 1 });
    guest.vm.setSlot({ ...slot, logDirty: true });
    for (const i of [0n, 1n]) guest.access(GVA + (i << 12n), Access.Write);
    const before = guest.vm.getDirtyLog(0);
    expect(before).toContain(0x200);
    expect(guest.vm.getDirtyLog(0)).toEqual(before);
    guest.vm.clearDirtyLog(0, 0x200, 64, [0x200]);
    expect(guest.vm.getDirtyLog(0)).toEqual(before.filter((page) => page !== 0x200));
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    expect(guest.hardware(GVA + 0x1000n, Access.Write).ok).toBe(true);
    guest.dispose();
  });

  it("initially set counts every page as dirty and protects none", () => {
    const { guest } = started({ manualDirtyLog: 3 });
    guest.access(GVA, Access.Write);
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(guest.vm.getDirtyLog(0)).toHaveLength(RAM_PAGES);
    expect(guest.hardware(GVA, Access.Write).ok).toBe(true);
    guest.vm.clearDirtyLog(
      0,
      0,
      RAM_PAGES,
      Array.from({ length: RAM_PAGES }, (_, i) => i),
    );
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    guest.dispose();
  });

  it("refuses ranges that do not fit", () => {
    const { guest } = started({ manualDirtyLog: 1 });
    expect(() => guest.vm.getDirtyLog(0)).toThrow("no dirty log");
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(() => guest.vm.clearDirtyLog(0, 1, 64, [])).toThrow("steps of 64");
    expect(() => guest.vm.clearDirtyLog(0, 0, 65, [])).toThrow("steps of 64");
    guest.dispose();
  });
});

describe("memslots", () => {
  it("that are deleted take their translations with them", () => {
    const { guest, root } = started();
    guest.map(root, 0x60_0000n, HIGH_SLOT);
    guest.access(0x60_0000n, Access.Write);
    guest.vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: 0 });
    expect(guest.access(0x60_0000n, Access.Read)).toBe("mmio");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("that are moved are found at the new address only", () => {
    const { guest, root } = started();
    guest.map(root, 0x60_0000n, HIGH_SLOT);
    guest.map(root, 0x60_1000n, 0x5000_0000n);
    guest.access(0x60_0000n, Access.Write);
    guest.vm.setSlot({ id: 1, gpa: 0x5000_0000n, size: 4 << 20 });
    expect(guest.access(0x60_0000n, Access.Read)).toBe("mmio");
    expect(guest.access(0x60_1000n, Access.Write)).toBe("ok");
    guest.dispose();
  });

  it("that are moved have no more memory behind them than before", () => {
    const { guest } = started();
    const ram = guest.vm.createRam(0x2000);
    guest.vm.setSlot({ id: 5, gpa: 0x9000_0000n, size: 0x4000, ram, ramSize: 0x2000 });
    guest.vm.setSlot({ id: 5, gpa: 0xa000_0000n, size: 0x4000 });
    expect(guest.vm.readGuest(0xa000_1000n, 0x1000)).toHaveLength(0x1000);
    expect(guest.vm.readGuest(0xa000_2000n, 1)).toBeUndefined();
    expect(() => guest.vm.writeGuest(0xa000_1ff8n, new Uint8Array(16))).toThrow(MemoryRangeError);
    guest.dispose();
  });

  it("have no tables behind the memory that there is", () => {
    const { guest, root } = started();
    const ram = guest.vm.createRam(0x4000);
    // The memory behind the slot's own belongs to another slot, where the same bytes are tables.
    guest.vm.setSlot({ id: 5, gpa: 0x9000_0000n, size: 0x4000, ram, ramSize: 0x1000 });
    guest.vm.setSlot({ id: 6, gpa: 0xa000_0000n, size: 0x3000, ram: ram + 0x1000 });
    const at = 0x7f80_0000_0000n;
    guest.poke(0xa000_0000n, 0xa000_1000n | FULL);
    guest.poke(0xa000_1000n, 0xa000_2000n | FULL);
    guest.poke(0xa000_2000n, 0x20_0000n | FULL);
    guest.poke(guest.entryAddress(root, at, 4), 0xa000_0000n | FULL);
    expect(guest.access(at, Access.Read)).toBe("ok");
    guest.poke(guest.entryAddress(root, at, 4), 0x9000_1000n | FULL);
    guest.vcpu.writeCr3(root);
    guest.vcpu.emulatedWrite(guest.entryAddress(root, at, 4), bytesOf(0x9000_1000n | FULL, 8));
    expect(guest.access(at, Access.Read)).toBe("#PF 0");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("that reach beyond the memory, where the embedder has made it larger, are refused", () => {
    const engine = loadSync();
    const guest = new Guest({}, engine);
    const ram = engine.linearMemory.buffer.byteLength;
    engine.linearMemory.grow(1);
    const slot = { id: 5, gpa: 0x9000_0000n, ram };
    expect(() => guest.vm.setSlot({ ...slot, size: 0x1_1000 })).toThrow("reach beyond");
    guest.vm.setSlot({ ...slot, size: 0x1_0000 });
    guest.dispose();
  });

  it("that are read-only are read directly and written by emulation", () => {
    const { guest, root } = started();
    const ram = guest.vm.createRam(0x4000);
    guest.vm.setSlot({ id: 5, gpa: 0x9000_0000n, size: 0x4000, ram, readOnly: true });
    guest.map(root, 0x60_0000n, 0x9000_0000n);
    expect(guest.access(0x60_0000n, Access.Read)).toBe("ok");
    expect(guest.access(0x60_0000n, Access.Write)).toBe("emulate");
    guest.dispose();
  });

  it.each([
    ["other memory", { id: 1, gpa: 0x1000n, size: 0x1000 }, "cannot be changed"],
    ["an overlap", { id: 7, gpa: 0x1000n, size: 0x1000 }, "overlaps slot 0"],
    ["a misaligned address", { id: 7, gpa: 0x1001n, size: 0x1000 }, "multiples of 4096"],
    [
      "a slot without memory",
      { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: undefined },
      "expected the linear address",
    ],
    ["the deletion of nothing", { id: 7, gpa: 0n, size: 0 }, "does not exist"],
    ["a slot number out of range", { id: 600, gpa: 0n, size: 0x1000 }, "from 0 to 509"],
    ["an unknown option", { id: 7, gpa: 0n, size: 0x1000, log: true }, 'unknown option "log"'],
    ["a number for a bigint", { id: 7, gpa: 0x1000, size: 0x1000 }, "expected a bigint"],
    ["a negative address", { id: 7, gpa: -0x1000n, size: 0x1000 }, "expected a bigint"],
    ["memory at no address", { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: Number.NaN }, "ram is NaN"],
    ["memory in part of a page", { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: 0x1001 }, "multiples of 4096"],
    ["memory over the core's records", { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: 0 }, "are no RAM"],
    ["memory beyond the end", { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: 0xffff_f000 }, "reach beyond"],
    ["more memory than there is", { id: 7, gpa: 0x9000_0000n, size: 0x2000 }, "are no RAM"],
    [
      "less memory behind the same pages",
      { id: 1, gpa: HIGH_SLOT, size: 4 << 20, ram: undefined, ramSize: 0x1000, logDirty: true },
      "cannot be changed",
    ],
    ["more memory than size", { id: 7, gpa: 0x9000_0000n, size: 0x1000, ramSize: 0x2000 }, "ramSize is 8192"],
  ])("refuse %s", (_name, config, message) => {
    const { guest } = started();
    const generation = guest.vm.state.slots.generation(0);
    const ram = config.size === 0 ? undefined : guest.vm.createRam(0x1000);
    expect(() => guest.vm.setSlot({ ram, ...config } as unknown as SlotConfig)).toThrow(message);
    expect(guest.vm.state.slots.generation(0)).toBe(generation);
    guest.dispose();
  });
});

describe("a log that begins full", () => {
  it.each([1, 5, 64, 65, 130])("has each of %i pages, and no others", (pages) => {
    const { guest } = started({ manualDirtyLog: 3 });
    const ram = guest.vm.createRam(pages * 4096);
    guest.vm.setSlot({ id: 5, gpa: 0x9000_0000n, size: pages * 4096, ram, logDirty: true });
    expect(guest.vm.getDirtyLog(5)).toEqual(Array.from({ length: pages }, (_, page) => page));
    guest.dispose();
  });
});

describe("pages that the host took away", () => {
  it("are mapped ahead with their neighbours once it has them again", () => {
    const gone = new Set<bigint>();
    const page = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0xffffn), writable: true, level: 1 });
    const hostMemory = {
      pin: (hva: bigint) => {
        gone.delete(hva);
        return page(hva);
      },
      peek: (hva: bigint) => (gone.has(hva) ? undefined : page(hva)),
    };
    const { guest, root } = started({ hostMemory });
    for (let i = 0n; i < 8n; i++) guest.map(root, 0x80_0000n + (i << 12n), HIGH_SLOT + (i << 12n));
    const mapped = () => {
      const all = Array.from({ length: 8 }, (_, i) => BigInt(i));
      return all.filter((i) => guest.hardware(0x80_0000n + (i << 12n), Access.Write).ok);
    };
    for (let i = 0n; i < 8n; i++) gone.add(HIGH_HVA + (i << 12n));
    guest.vm.unmapRange(HIGH_HVA, HIGH_HVA + 0x8000n);
    expect(guest.vcpu.pageFault(0x80_0000n, 2).result).toBe("fixed");
    expect(mapped()).toEqual([0n]);
    guest.vm.unmapRange(HIGH_HVA, HIGH_HVA + 0x8000n);
    gone.delete(HIGH_HVA + 0x1000n);
    gone.delete(HIGH_HVA + 0x2000n);
    expect(guest.vcpu.pageFault(0x80_0000n, 2).result).toBe("fixed");
    expect(mapped()).toEqual([0n, 1n, 2n]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

it("a range is young where any of its slots is", () => {
  const { guest, root } = started();
  const slot = { gpa: 0x9000_0000n, size: 0x4000, ram: guest.vm.createRam(0x4000), hva: HVA };
  guest.vm.setSlot({ ...slot, id: 5 });
  guest.vm.setSlot({ ...slot, id: 6, gpa: 0xa000_0000n, addressSpace: 1 });
  guest.map(root, 0x80_0000n, PAGE);
  expect(guest.access(GVA, Access.Write)).toBe("ok");
  guest.vm.setHardwareBits(leafPage(guest), Number((GVA >> 12n) & 511n), 0x20n);
  // Slots 5 and 6 show the same host memory, and nothing of them was used.
  expect(guest.vm.testAge(HVA, HVA + (BigInt(RAM_PAGES) << 12n))).toBe(true);
  expect(guest.vm.age(HVA, HVA + (BigInt(RAM_PAGES) << 12n))).toBe(true);
  expect(guest.vm.testAge(HVA, HVA + (BigInt(RAM_PAGES) << 12n))).toBe(false);
  guest.dispose();
});

it("a page that is read-only when it is looked at is mapped ahead once it can be written", () => {
  let writable = false;
  const page = (hva: bigint, may = true): HostPage => ({
    pfn: 0x10_0000n + ((hva >> 12n) & 0xffffn),
    writable: may,
    level: 1,
  });
  const hostMemory = { pin: (hva: bigint) => page(hva), peek: (hva: bigint) => page(hva, writable) };
  const { guest, root } = started({ hostMemory });
  for (let i = 0n; i < 8n; i++) guest.map(root, 0x80_0000n + (i << 12n), HIGH_SLOT + (i << 12n));
  const ahead = () => guest.hardware(0x80_1000n, Access.Write).ok;
  expect([guest.vcpu.pageFault(0x80_0000n, 2).result, ahead()]).toEqual(["fixed", false]);
  writable = true;
  expect([guest.vcpu.pageFault(0x80_2000n, 2).result, ahead()]).toEqual(["fixed", true]);
  guest.dispose();
});

it.each([0, 1])(
  "MMIO entries of the last generation are gone when it begins anew (address space %i)",
  (addressSpace) => {
    const { guest } = started();
    const ram = guest.vm.createRam(0x4000);
    const slot = { id: 5, addressSpace, gpa: 0x9000_0000n, size: 0x4000, ram };
    guest.vm.setSlot(slot);
    guest.vcpu.enterGuest();
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    // 19 bits of it are in an MMIO SPTE, the lowest of which is the address space.
    guest.vm.state.slots.setGeneration(addressSpace, 0x7_fffcn + BigInt(addressSpace));
    const zapped = () => guest.vm.counter("ZAPPED");
    const before = zapped();
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(zapped()).toBe(before);
    guest.vm.setSlot({ ...slot, logDirty: false });
    expect(guest.vm.state.slots.generation(addressSpace) & 0x7_fffen).toBe(0n);
    expect(zapped()).toBeGreaterThan(before);
    guest.dispose();
  },
);

it("nobody asks the host for the pages of a slot that is gone", () => {
  const asked = new Set<bigint>();
  const page = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0xffffn), writable: true, level: 1 });
  const hostMemory = {
    pin: page,
    peek: (hva: bigint) => {
      asked.add(hva);
      return undefined;
    },
  };
  const { guest } = started({ hostMemory });
  const slot = { id: 5, gpa: 0x9000_0000n, size: 0x4000, ram: guest.vm.createRam(0x4000), hva: 0x7f80_0000_0000n };
  guest.vm.setSlot(slot);
  expect(guest.vcpu.pageFault(GVA, 2).result).toBe("fixed");
  expect(asked.has(slot.hva)).toBe(true);
  guest.vm.setSlot({ ...slot, size: 0 });
  guest.vcpu.enterGuest();
  asked.clear();
  expect(guest.vcpu.pageFault(GVA + 0x1000n, 2).result).toBe("fixed");
  expect(asked.size).toBeGreaterThan(0);
  expect(asked.has(slot.hva)).toBe(false);
  guest.dispose();
});

describe("the page limit", () => {
  it("zaps the oldest pages, never a root in use", () => {
    const { guest, root } = started();
    for (let i = 0n; i < 100n; i++) {
      const gva = 0x1_0000_0000n + (i << 21n);
      guest.map(root, gva, PAGE);
      expect(guest.access(gva, Access.Read)).toBe("ok");
    }
    expect(guest.vm.counter("USED")).toBeLessThanOrEqual(guest.vm.counter("MAX"));
    expect(guest.vm.counter("RECYCLED")).toBeGreaterThan(0);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.setPageLimit(64);
    expect(() => guest.vm.setPageLimit(63)).toThrow("from 64 to");
    guest.dispose();
  });
});

describe("a page that the host changed", () => {
  it("is not mapped ahead as it was before", () => {
    const GPA = 0x3000n;
    let moved = false;
    const page = (hva: bigint): HostPage => {
      const changed = moved && hva === HVA + GPA;
      return { pfn: (changed ? 0x30_0000n : 0x20_0000n) + ((hva >> 12n) & 0xffffn), writable: !changed, level: 1 };
    };
    const peek = (hva: bigint) => (page(hva).writable ? page(hva) : undefined);
    const guest = new Guest({ paging: "npt", hostMemory: { pin: page, peek } });
    guest.start("nopg", 0n);
    // The look-up for another page tells that this one is there; then it changes.
    guest.vcpu.pageFault(0x8_0000n, 4);
    moved = true;
    guest.vm.changePage(HVA + GPA, page(HVA + GPA));
    guest.vcpu.pageFault(GPA + 0x1000n, 4);
    const table = guest.vm.allPages().find(({ role }) => (role & 15) === 1)!.table;
    const leaves = [2n, 3n, 4n].map((index) => guest.vm.state.core.pages.entry(table, Number(index)) !== 0n);
    expect(leaves).toEqual([true, false, true]);
    guest.dispose();
  });
});
