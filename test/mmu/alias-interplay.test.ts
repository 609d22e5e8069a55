/** GPA aliases together with the rest of the engine. */
import { describe, expect, it } from "vitest";
import { Access, ConfigError, MemoryRangeError } from "../../src/index.js";
import type { VirtualMachineConfig } from "../../src/mmu/index.js";
import { roleIsDirect, roleIsGuestMode } from "../../src/role/index.js";
import { legacyMasks } from "../../src/spte/index.js";
import { FULL, Guest, registersOf } from "./guest.js";
import { NestedNpt } from "./nested-guest.js";
import { FORMATS, LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const BIT = 1n << 47n;
const OTHER = 1n << 41n;
const GPA = 0x12_3000n;
const INTERNAL = 0x8000_0000n;
const MMUS = [false, true];

/** Ends a test. */
function sound(guest: { vm: { audit(): unknown }; dispose(): void }): void {
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
}

describe("the dirty log", () => {
  it.each(FORMATS.flatMap((format) => MMUS.map((tdpMmu) => [format, tdpMmu] as const)))(
    "reaches the alias of a slot that ends where the alias begins (%s, TDP MMU: %s)",
    (format, tdpMmu) => {
      const guest = new TdpGuest(format, { tdpMmu, aliases: { mask: OTHER } });
      const gpa = OTHER - 0x2000n;
      const slot = { id: 7, gpa, size: 0x2000, ram: guest.vm.createRam(0x2000), hva: 0x7f00_1000_0000n };
      guest.vm.setSlot({ ...slot, logDirty: true });
      for (let round = 0; round < 3; round++) {
        expect(guest.access(gpa | OTHER, "write")).toBe("ok");
        expect(guest.vm.getDirtyLog(7)).toEqual([0]);
      }
      sound(guest);
    },
  );

  it("splits no large page of another slot", () => {
    const guest = new TdpGuest("npt", { manualDirtyLog: 3 });
    guest.access(0n, "write");
    guest.access(LARGE_GPA, "write");
    guest.vm.setSlot(guest.slot(0, true));
    guest.vm.clearDirtyLog(0, 0, 64, [0]);
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    sound(guest);
  });
});

describe("CR3 with alias bits", () => {
  const bad = { ...registersOf("4level", 0x2000n | BIT) };

  it("is refused wherever registers come from outside, with nothing changed", () => {
    const guest = new TdpGuest("npt", { aliases: { mask: BIT }, guestPhysicalBits: 48 });
    const { vcpu } = guest;
    vcpu.enterSmm();
    expect(() => vcpu.leaveSmm(bad)).toThrow(ConfigError);
    expect([vcpu.inSmm, vcpu.registers.cr3]).toEqual([true, 0x1000n]);
    vcpu.leaveSmm(guest.registers);
    expect(() => vcpu.setGuestRegisters({ cr3: bad.cr3 })).toThrow(ConfigError);
    expect(vcpu.registers.cr3).toBe(0x1000n);
    vcpu.enterNested(guest.registers);
    expect(() => vcpu.exitNested(bad)).toThrow(ConfigError);
    expect(vcpu.inGuestMode).toBe(true);
    vcpu.exitNested(guest.registers);
    sound(guest);
  });

  it("is L2's own affair behind L1's second stage", () => {
    const guest = new NestedNpt(4, "4level", { aliases: { mask: OTHER } });
    guest.enter(registersOf("4level", 0x2000n));
    guest.vcpu.setGuestRegisters({ cr3: 0x2000n | OTHER });
    expect(guest.vcpu.registers.cr3).toBe(0x2000n | OTHER);
    guest.exit();
    sound(guest);
  });
});

describe("guest memory", () => {
  const withInternal = (config: Partial<VirtualMachineConfig> = {}) => {
    const guest = new TdpGuest("npt", { aliases: { mask: BIT }, ...config });
    const ram = guest.vm.createRam(0x2000);
    guest.vm.setSlot({ id: 7, gpa: INTERNAL, size: 0x2000, ram, hva: 0x7f00_1000_0000n, internal: true });
    return guest;
  };

  it("is read and written through any alias of an address", () => {
    const guest = withInternal();
    guest.vm.writeGuest((GPA + 0xffen) | BIT, Uint8Array.of(1, 2, 3, 4));
    expect([...guest.vm.readGuest(GPA + 0xffen, 4)!]).toEqual([1, 2, 3, 4]);
    expect([...guest.vm.readGuest((GPA + 0xffen) | BIT, 4)!]).toEqual([1, 2, 3, 4]);
    sound(guest);
  });

  it("of the VM's own is at its plain address only", () => {
    const guest = withInternal();
    const write = (gpa: bigint) => guest.vcpu.emulatedWrite(gpa, Uint8Array.of(7));
    expect(() => write(INTERNAL | BIT)).toThrow(MemoryRangeError);
    expect(guest.vm.readGuest(INTERNAL | BIT, 1)).toBeUndefined();
    expect([...guest.vm.readGuest(INTERNAL, 1)!]).toEqual([0]);
    write(INTERNAL);
    expect([...guest.vm.readGuest(INTERNAL, 1)!]).toEqual([7]);
    sound(guest);
  });
});

describe("an L1 hypervisor", () => {
  const make = () => {
    const guest = new NestedNpt(4, "4level", { aliases: { mask: BIT } });
    const ram = guest.vm.createRam(0x2000);
    guest.vm.setSlot({ id: 7, gpa: INTERNAL, size: 0x2000, ram, hva: 0x7f00_1000_0000n, internal: true });
    return guest;
  };

  it("does not reach the VM's own page through an entry with alias bits", () => {
    const guest = make();
    // Prefetching goes from the block's start to the first entry that it cannot map.
    guest.map(guest.root, 0n, 0x5000n);
    guest.map(guest.root, 0x1000n, INTERNAL | BIT);
    guest.map(guest.root, 0x2000n, INTERNAL);
    guest.map(guest.root, 0x3000n, (INTERNAL + 0x1000n) | BIT);
    guest.enter();
    expect(guest.touch(0x2000n, Access.Read)).toBe(INTERNAL >> 12n);
    for (const gpa of [0x1000n, 0x3000n]) {
      expect(guest.second(gpa, Access.Read).ok).toBe(false);
      expect(guest.touch(gpa, Access.Read)).toMatchObject({ result: "emulate" });
    }
    sound(guest);
  });

  it("loses it when its entry gets alias bits, and has it again without them", () => {
    const guest = make();
    const entry = guest.map(guest.root, 0x1000n, INTERNAL);
    guest.enter();
    for (let round = 0; round < 2; round++) {
      expect(guest.touch(0x1000n, Access.Read)).toBe(INTERNAL >> 12n);
      guest.exit();
      // Behind the table's back once it is unsync: L1 writes through its own mapping.
      expect(guest.l1Write(entry, guest.read(entry) | BIT)).toBe("written");
      guest.enter();
      expect(guest.second(0x1000n, Access.Read).ok).toBe(false);
      expect(guest.touch(0x1000n, Access.Read)).toMatchObject({ result: "emulate" });
      guest.exit();
      expect(guest.l1Write(entry, guest.read(entry) & ~BIT)).toBe("written");
      guest.enter();
    }
    expect(guest.touch(0x1000n, Access.Read)).toBe(INTERNAL >> 12n);
    sound(guest);
  });
});

describe("an L1 hypervisor's large pages", () => {
  const FIRST = 0xc000_0000n;
  const make = (mode: "4level" | "pae" = "4level") => {
    const guest = new NestedNpt(4, mode, { aliases: { mask: BIT } });
    const ram = guest.vm.createRam(0x8000);
    const hva = 0x7f00_1000_0000n;
    guest.vm.setSlot({ id: 7, gpa: FIRST, size: 0x4000, ram, hva });
    const own = { id: 8, gpa: FIRST + 0x4000n, size: 0x4000, ram: ram + 0x4000, hva: hva + 0x4000n, internal: true };
    guest.vm.setSlot(own);
    return guest;
  };

  it("of two aliases have tables of their own, and only the plain one maps the VM's own page", () => {
    const guest = make();
    guest.map(guest.root, 0x20_0000n, FIRST, FULL, 2);
    guest.map(guest.root, 0x40_0000n, FIRST | BIT, FULL, 2);
    guest.enter();
    for (const gpa of [0x20_3000n, 0x40_3000n, 0x20_4000n])
      expect(guest.touch(gpa, Access.Read)).toBe(((gpa & 0xf_ffffn) + FIRST) >> 12n);
    expect(guest.second(0x40_4000n, Access.Read).ok).toBe(false);
    expect(guest.touch(0x40_4000n, Access.Read)).toMatchObject({ result: "emulate" });
    const tables = guest.vm.pages().filter(({ role }) => roleIsDirect(role) && roleIsGuestMode(role));
    expect(tables.map(({ gfn }) => gfn)).toEqual([FIRST >> 12n, FIRST >> 12n]);
    expect(new Set(tables.map(({ alias }) => alias))).toEqual(new Set([0n, BIT >> 12n]));
    sound(guest);
  });

  it("change tables where the alias does, although nobody heard of the write", () => {
    const guest = make();
    const entry = guest.map(guest.root, 0x20_0000n, FIRST, FULL, 2);
    guest.enter();
    expect(guest.touch(0x20_4000n, Access.Read)).toBe((FIRST >> 12n) + 4n);
    guest.poke(entry, guest.read(entry) | BIT);
    // No slot lies there; the fault finds the other alias's table.
    expect(guest.touch(0x20_8000n, Access.Read)).toMatchObject({ result: "emulate" });
    expect(guest.second(0x20_4000n, Access.Read).ok).toBe(false);
    expect(guest.touch(0x20_4000n, Access.Read)).toMatchObject({ result: "emulate" });
    expect(guest.touch(0x20_1000n, Access.Read)).toBe((FIRST >> 12n) + 1n);
    sound(guest);
  });

  it("may be a PAE hypervisor's", () => {
    const guest = make("pae");
    guest.map(guest.root, 0x1000n, 0x5000n | BIT);
    const pdpte = guest.entryAddress(guest.root, 0n, 3);
    guest.poke(pdpte, guest.read(pdpte) | BIT);
    guest.map(guest.root, 0x40_0000n, FIRST | BIT, FULL, 2);
    guest.enter();
    expect(guest.touch(0x1000n, Access.Write)).toBe(5n);
    expect(guest.touch(0x40_1000n, Access.Write)).toBe((FIRST >> 12n) + 1n);
    expect(guest.touch(0x40_4000n, Access.Read)).toMatchObject({ result: "emulate" });
    sound(guest);
  });
});

describe("L2's own tables", () => {
  it.each(["4level", "pae"] as const)("are read through entries of L1's with alias bits (%s)", (mode) => {
    const guest = new NestedNpt(4, "4level", { aliases: { mask: BIT } });
    // L2's tables lie where L2's and L1's addresses are the same.
    guest.mode = mode;
    const root = guest.table();
    guest.map(root, 0x40_0000n, 0x9000n);
    const end = guest.table();
    guest.mode = "4level";
    for (let gpa = root; gpa < end; gpa += 0x1000n) guest.map(guest.root, gpa, gpa | BIT);
    guest.map(guest.root, 0x9000n, 0x5000n | BIT);
    guest.enter(registersOf(mode, root));
    expect(guest.vcpu.walk(0x40_0123n, 4)).toEqual({ ok: true, gpa: 0x5123n | BIT });
    sound(guest);
  });
});

describe("pages of 1 GiB", () => {
  it("are one page through alias bits that one table of them translates", () => {
    const size = 1 << 30;
    const bit = 1n << 36n;
    const hva = 0x7f80_0000_0000n;
    const guest = new TdpGuest("npt", {
      tdpMmu: false,
      hostPhysicalBits: 36,
      masks: legacyMasks({ physBits: 36 }),
      aliases: { mask: bit },
      hostMemory: {
        pin: (at) => ({ pfn: 0x4_0000n + ((at - hva) >> 12n), writable: true, level: 3 }),
        peek: () => undefined,
      },
    });
    const { ram } = guest.vm.state.slots.slots[0]!;
    const slot = { id: 7, gpa: 4n * BigInt(size), size, ram, ramSize: 0x1000, hva };
    guest.vm.setSlot(slot);
    expect(guest.access(slot.gpa | bit, "write")).toBe("ok");
    expect(guest.leaf(slot.gpa | bit)!.level).toBe(3);
    guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 });
    sound(guest);
  });
});

describe("asynchronous page faults", () => {
  const GFN = GPA >> 12n;
  const make = (format: "npt" | "ept", config: Partial<VirtualMachineConfig>) => {
    const away = new Set([0x7f00_0000_0000n + GPA]);
    const guest: TdpGuest = new TdpGuest(format, {
      hostMemory: {
        pin: (hva) => (away.has(hva) ? undefined : { pfn: guest.frame(hva), writable: true, level: 1 }),
        peek: () => undefined,
      },
      ...config,
    });
    guest.vcpu.enterGuest();
    return { guest, away };
  };

  it.each(MMUS)("map the page of an execute-only alias when it is there (TDP MMU: %s)", (tdpMmu) => {
    const { guest, away } = make("ept", { tdpMmu, aliases: { mask: BIT, executeOnly: BIT } });
    expect(guest.vcpu.pageFault(GPA | BIT, 0x14)).toMatchObject({ result: "retry", first: true });
    away.clear();
    expect(guest.vcpu.pageReady(GFN)).toBe(true);
    expect(guest.leaf(GPA | BIT)!.spte & 7n).toBe(4n);
    sound(guest);
  });

  it.each(MMUS)("map nothing at an address that is no alias any more (TDP MMU: %s)", (tdpMmu) => {
    const { guest, away } = make("npt", { tdpMmu, aliases: { mask: BIT } });
    expect(guest.vcpu.pageFault(GPA | BIT, 4)).toMatchObject({ result: "retry", first: true });
    guest.vm.setAliases({ mask: 0n });
    away.clear();
    expect(guest.vcpu.pageReady(GFN)).toBe(true);
    guest.vcpu.enterGuest();
    expect(guest.path(GPA | BIT).at(-1)!.spte).toBe(0n);
    sound(guest);
  });

  it.each(MMUS)("survive the deletion of the slot (TDP MMU: %s)", (tdpMmu) => {
    const { guest, away } = make("npt", { tdpMmu, aliases: { mask: BIT } });
    guest.vcpu.pageFault(GPA | BIT, 4);
    guest.vm.setSlot({ id: 0, gpa: 0n, size: 0 });
    away.clear();
    expect(guest.vcpu.pageReady(GFN)).toBe(true);
    expect(guest.leaf(GPA | BIT)).toBeUndefined();
    sound(guest);
  });
});

describe("an asynchronous page fault in the guest's own tables", () => {
  it("maps nothing once the guest runs on others", () => {
    const away = new Set([0x7f00_0000_5000n]);
    const guest: Guest = new Guest({
      hostMemory: {
        pin: (hva) =>
          away.has(hva) ? undefined : { pfn: 0x4_0000n + ((hva >> 12n) & 0xffffn), writable: true, level: 1 },
        peek: () => undefined,
      },
    });
    guest.mode = "4level";
    const [root, other] = [guest.table(), guest.table()];
    for (const table of [root, other]) guest.map(table, 0x40_0000n, 0x5000n);
    const vcpu = guest.start("4level", root);
    const wait = { gfn: 5n, address: 0x40_0000n, pgd: root };
    const fault = () => vcpu.pageFault(0x40_0000n, 4);
    expect(fault()).toEqual({ result: "retry", waits: wait, first: true });
    vcpu.writeCr3(other);
    away.clear();
    expect(vcpu.pageReady(5n)).toBe(true);
    vcpu.enterGuest();
    expect(guest.hardware(0x40_0000n, Access.Read).ok).toBe(false);
    away.add(0x7f00_0000_5000n);
    expect(fault()).toMatchObject({ first: true, waits: { pgd: other } });
    away.clear();
    expect(vcpu.pageReady(5n)).toBe(true);
    expect(guest.hardware(0x40_0000n, Access.Read).ok).toBe(true);
    sound(guest);
  });
});

describe("NX-huge pages", () => {
  it.each(MMUS)("are small where an alias is executed, and only there (TDP MMU: %s)", (tdpMmu) => {
    const guest = new TdpGuest("ept", { tdpMmu, aliases: { mask: BIT }, nxHugePages: true });
    guest.access(LARGE_GPA, "read");
    expect(guest.access((LARGE_GPA + 0x3000n) | BIT, "exec")).toBe("ok");
    expect([guest.leaf(LARGE_GPA)!.level, guest.leaf((LARGE_GPA + 0x3000n) | BIT)!.level]).toEqual([2, 1]);
    expect(guest.vm.recoverHugePages(10)).toBe(1);
    expect(guest.access(LARGE_GPA | BIT, "read")).toBe("ok");
    expect(guest.leaf(LARGE_GPA | BIT)!.level).toBe(2);
    sound(guest);
  });
});

describe("trace events", () => {
  it.each(MMUS)("name gfns (TDP MMU: %s)", (tdpMmu) => {
    const guest = new TdpGuest("npt", { tdpMmu, aliases: { mask: BIT }, eventCapacity: 16384 });
    const gfns: bigint[] = [];
    guest.vm.events.sink = (event) => {
      if ("gfn" in event) gfns.push(event.gfn);
    };
    guest.access(GPA | BIT, "write");
    guest.vm.setSlot({ id: 0, gpa: 0n, size: 0 });
    guest.vcpu.enterGuest();
    expect(gfns).toContain(GPA >> 12n);
    expect(gfns.filter((gfn) => gfn & (BIT >> 12n))).toEqual([]);
    sound(guest);
  });
});

describe("system-management mode", () => {
  it.each(MMUS)("has aliases of its own pages (TDP MMU: %s)", (tdpMmu) => {
    const guest = new TdpGuest("npt", { tdpMmu, aliases: { mask: BIT } });
    const hva = 0x7f00_1000_0000n;
    const ram = guest.vm.createRam(0x20_0000);
    guest.vm.setSlot({ id: 0, addressSpace: 1, gpa: 0n, size: 0x20_0000, ram, hva });
    guest.access(GPA | BIT, "read");
    const normal = guest.leaf(GPA | BIT)!;
    guest.vcpu.enterSmm();
    expect(guest.access(GPA | BIT, "read")).toBe("ok");
    expect(guest.leaf(GPA | BIT)!.spte & ~0xfffn).not.toBe(normal.spte & ~0xfffn);
    guest.vm.unmapRange(hva + GPA, hva + GPA + 0x1000n);
    expect(guest.leaf(GPA | BIT)).toBeUndefined();
    guest.vcpu.leaveSmm(guest.registers);
    guest.vcpu.enterGuest();
    expect(guest.leaf(GPA | BIT)).toEqual(normal);
    sound(guest);
  });
});

describe("tables of five levels", () => {
  const bits = [1n << 51n, 1n << 48n, BIT];
  it.each(MMUS)("keep aliases apart at every level (TDP MMU: %s)", (tdpMmu) => {
    const mask = bits.reduce((all, bit) => all | bit);
    const guest = new TdpGuest("npt", {
      tdpMmu,
      aliases: { mask },
      tdpLevels: { forced: 5, max: 5 },
    });
    const all = [0n, ...bits, mask].map((bit) => GPA | bit);
    for (const gpa of all) expect(guest.access(gpa, "write")).toBe("ok");
    expect(new Set(all.map((gpa) => guest.leaf(gpa)!.sptep)).size).toBe(all.length);
    guest.vm.unmapRange(guest.hva(GPA), guest.hva(GPA) + 0x1000n);
    expect(all.map((gpa) => guest.leaf(gpa))).toEqual(all.map(() => undefined));
    sound(guest);
  });
});

it.each([40n, 43n, 47n])(
  "what is written from outside through alias bit %i is in the log, as the page itself",
  (at) => {
    const bit = 1n << at;
    const guest = new TdpGuest("npt", { aliases: { mask: bit } });
    guest.vm.setSlot(guest.slot(1, true));
    guest.vm.writeGuest((LARGE_GPA + 0x5000n) | bit, Uint8Array.of(1));
    guest.vm.writeGuest(LARGE_GPA + 0x7ffen, Uint8Array.of(1, 2, 3, 4));
    expect(guest.vm.getDirtyLog(1)).toEqual([5, 7, 8]);
    guest.dispose();
  },
);
