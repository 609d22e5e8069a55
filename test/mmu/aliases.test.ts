/** GPA aliases: each rule, in the classic direct MMU and in the TDP MMU. */
import { describe, expect, it } from "vitest";
import { Access, ConfigError, GeneralProtectionError, UnsupportedError } from "../../src/index.js";
import { type AliasConfig, VirtualMachine, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { roleIsDirect, roleIsGuestMode, roleLevel } from "../../src/role/index.js";
import { eptMasks, legacyMasks } from "../../src/spte/index.js";
import { core, FULL, Guest, HIGH_SLOT, P, registersOf } from "./guest.js";
import { NestedEpt, NestedNpt } from "./nested-guest.js";
import { type Format, LARGE_GPA, TdpGuest } from "./tdp-guest.js";

/** Above the 46 bits of the host's and the guest's physical addresses. */
const BIT = 1n << 47n;
const OTHER = 1n << 41n;
const GPA = 0x12_3000n;
const W = 2n;
const ADDRESS = 0x000f_ffff_ffff_f000n & ~BIT;

/** Both direct MMUs in both formats. */
const KINDS: readonly { readonly name: string; readonly format: Format; readonly tdpMmu: boolean }[] = [
  { name: "classic NPT", format: "npt", tdpMmu: false },
  { name: "classic EPT", format: "ept", tdpMmu: false },
  { name: "TDP MMU, NPT", format: "npt", tdpMmu: true },
  { name: "TDP MMU, EPT", format: "ept", tdpMmu: true },
  { name: "TDP MMU, EPT with PML", format: "ept with PML", tdpMmu: true },
  { name: "classic EPT with PML", format: "ept with PML", tdpMmu: false },
  { name: "classic EPT without A/D", format: "ept without A/D", tdpMmu: false },
  { name: "TDP MMU, EPT without A/D", format: "ept without A/D", tdpMmu: true },
];

function expectSound(guest: { vm: VirtualMachine; dispose(): void }): void {
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
}

describe.each(KINDS)("aliases of a page ($name)", ({ format, tdpMmu }) => {
  const make = (aliases: AliasConfig = { mask: BIT }, config: Partial<VirtualMachineConfig> = {}) =>
    new TdpGuest(format, { tdpMmu, aliases, ...config });
  const both = (guest: TdpGuest, gpa = GPA) => [gpa, gpa | BIT].map((address) => guest.leaf(address));

  it("get an SPTE each, of one gfn, in pages of their own below one root", () => {
    const guest = make();
    expect(guest.access(GPA, "write")).toBe("ok");
    expect(guest.access(GPA | BIT, "write")).toBe("ok");
    const [plain, alias] = both(guest);
    expect(plain!.sptep).not.toBe(alias!.sptep);
    expect(alias!.spte & ADDRESS).toBe(plain!.spte & ADDRESS);
    expect((alias!.spte & ADDRESS) >> 12n).toBe(guest.frame(guest.hva(GPA)));
    const pages = guest.vm.pages();
    expect(pages.filter((page) => page.rootCount > 0).length).toBe(1);
    const leaves = pages.filter((page) => roleLevel(page.role) === 1);
    expect(leaves.map((page) => [page.gfn, page.alias]).sort((a, b) => (a[1]! < b[1]! ? -1 : 1))).toEqual([
      [0n, 0n],
      [0n, BIT >> 12n],
    ]);
    expectSound(guest);
  });

  it("keep their bits in what a fault goes through and lose them in the gfn", () => {
    const guest = make({ mask: BIT | OTHER });
    for (const bits of [0n, BIT, OTHER, BIT | OTHER]) expect(guest.access(GPA | bits, "read")).toBe("ok");
    const sptes = [0n, BIT, OTHER, BIT | OTHER].map((bits) => guest.leaf(GPA | bits)!);
    expect(new Set(sptes.map((leaf) => leaf.sptep)).size).toBe(4);
    expect(new Set(sptes.map((leaf) => leaf.spte & ADDRESS)).size).toBe(1);
    expectSound(guest);
  });

  it("are all unmapped with their gfn", () => {
    const guest = make({ mask: BIT | OTHER });
    const all = [0n, BIT, OTHER, BIT | OTHER].map((bits) => GPA | bits);
    for (const gpa of all) guest.access(gpa, "write");
    guest.access((GPA + 0x1000n) | BIT, "write");
    guest.vm.unmapRange(guest.hva(GPA), guest.hva(GPA) + 0x1000n);
    expect(all.map((gpa) => guest.leaf(gpa))).toEqual([undefined, undefined, undefined, undefined]);
    expect(guest.leaf((GPA + 0x1000n) | BIT)).toBeDefined();
    expectSound(guest);
  });

  it("all age with their gfn, and an access through any of them counts", () => {
    const guest = make();
    const hva = guest.hva(GPA);
    const young = () => [guest.vm.testAge(hva, hva + 0x1000n), guest.vm.age(hva, hva + 0x1000n)];
    guest.access(GPA, "write");
    guest.access(GPA | BIT, "write");
    expect(young()).toEqual([true, true]);
    expect(young()).toEqual([false, false]);
    for (const gpa of [GPA, GPA | BIT]) {
      guest.access(gpa, "read");
      expect(young()).toEqual([true, true]);
      expect(young()).toEqual([false, false]);
    }
    expectSound(guest);
  });

  it("all follow their gfn to another host page", () => {
    const guest = make();
    for (const gpa of [GPA, GPA | BIT]) guest.access(gpa, "write");
    guest.vm.changePage(guest.hva(GPA), { pfn: 0x55_5000n, writable: false, level: 1 });
    expect(both(guest).map((leaf) => [(leaf!.spte & ADDRESS) >> 12n, leaf!.spte & W])).toEqual([
      [0x55_5000n, 0n],
      [0x55_5000n, 0n],
    ]);
    guest.vm.changePage(guest.hva(GPA), { pfn: 0x55_6000n, writable: true, level: 1 });
    expect(both(guest)).toEqual([undefined, undefined]);
    expectSound(guest);
  });

  it("share the dirty log of their gfn, in every round", () => {
    const guest = make();
    for (const gpa of [GPA, GPA | BIT]) guest.access(gpa, "write");
    guest.vm.setSlot(guest.slot(0, true));
    const page = Number(GPA >> 12n);
    for (const gpa of [GPA, GPA | BIT]) {
      expect(guest.vm.getDirtyLog(0)).toEqual([]);
      expect(guest.access(gpa, "write")).toBe("ok");
      expect(guest.vm.getDirtyLog(0)).toEqual([page]);
    }
    for (const gpa of [GPA | BIT, GPA]) guest.access(gpa, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([page]);
    // The next round sees both again.
    guest.access(GPA | BIT, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([page]);
    guest.access(GPA, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([page]);
    expectSound(guest);
  });

  it("share the log under manual protection", () => {
    const guest = make({ mask: BIT }, { manualDirtyLog: 3 });
    for (const gpa of [LARGE_GPA, LARGE_GPA | BIT]) guest.access(gpa, "write");
    guest.vm.setSlot(guest.slot(1, true));
    guest.vm.clearDirtyLog(
      1,
      0,
      1024,
      Array.from({ length: 1024 }, (_, i) => i),
    );
    for (const gpa of [LARGE_GPA | BIT, LARGE_GPA]) {
      expect(guest.access(gpa + 0x5000n, "write")).toBe("ok");
      expect(guest.vm.getDirtyLog(1)).toEqual([5]);
      guest.vm.clearDirtyLog(1, 0, 64, [5]);
    }
    expectSound(guest);
  });

  it("are both split for logging and large again after it", () => {
    const guest = make();
    for (const gpa of [LARGE_GPA, LARGE_GPA | BIT]) guest.access(gpa, "write");
    expect(both(guest, LARGE_GPA).map((leaf) => leaf!.level)).toEqual([2, 2]);
    guest.vm.setSlot(guest.slot(1, true));
    for (const gpa of [LARGE_GPA, LARGE_GPA | BIT]) guest.access(gpa + 0x3000n, "write");
    expect(both(guest, LARGE_GPA + 0x3000n).map((leaf) => leaf!.level)).toEqual([1, 1]);
    expect(guest.vm.getDirtyLog(1)).toEqual([3]);
    guest.vm.setSlot(guest.slot(1));
    for (const gpa of [LARGE_GPA, LARGE_GPA | BIT]) guest.access(gpa, "write");
    expect(both(guest, LARGE_GPA).map((leaf) => leaf!.level)).toEqual([2, 2]);
    expectSound(guest);
  });

  it("all go with their slot", () => {
    const guest = make();
    for (const gpa of [LARGE_GPA, LARGE_GPA | BIT]) guest.access(gpa, "write");
    guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 });
    guest.vcpu.enterGuest();
    expect(both(guest, LARGE_GPA)).toEqual([undefined, undefined]);
    expect(guest.access(LARGE_GPA | BIT, "read")).not.toBe("ok");
    expectSound(guest);
  });

  it("lead nowhere where no slot is", () => {
    const guest = make();
    for (const gpa of [0x9000_0000n | BIT, 0x9000_0000n]) expect(guest.access(gpa, "write")).toBe("mmio");
    expect(guest.vcpu.state.mmioInfo.gfn).toBe(0x9_0000n);
    expectSound(guest);
  });

  it("lead nowhere where the page is the VM's own", () => {
    const guest = make();
    const gpa = 0x8000_0000n;
    guest.vm.setSlot({ id: 7, gpa, size: 0x8000, ram: guest.vm.createRam(0x8000), hva: 0x1000_0000n, internal: true });
    expect(guest.access(gpa | BIT, "read")).toBe("mmio");
    expect(guest.access(gpa, "read")).toBe("ok");
    expect(guest.leaf(gpa | BIT)).toBeUndefined();
    expect(guest.leaf((gpa | BIT) + 0x1000n)).toBeUndefined();
    expectSound(guest);
  });

  it("wait for one page of the host together", () => {
    const away = new Set([0x7f00_0000_0000n + GPA]);
    const guest: TdpGuest = make(
      { mask: BIT },
      {
        hostMemory: {
          pin: (hva) => (away.has(hva) ? undefined : { pfn: guest.frame(hva), writable: true, level: 1 }),
          peek: () => undefined,
        },
      },
    );
    guest.vcpu.enterGuest();
    const gfn = GPA >> 12n;
    const waits = { gfn, address: GPA | BIT, pgd: undefined };
    expect(guest.vcpu.pageFault(GPA | BIT, 6)).toEqual({ result: "retry", waits, first: true });
    expect(guest.vcpu.pageFault(GPA, 6)).toEqual({ result: "retry", waits, first: false });
    expect(guest.vcpu.waits).toEqual([waits]);
    away.clear();
    expect(guest.vcpu.pageReady(gfn)).toBe(true);
    expect(guest.leaf(GPA | BIT)).toBeDefined();
    expect([guest.vcpu.pageReady(gfn), guest.vcpu.waits]).toEqual([false, []]);
    expectSound(guest);
  });

  it("are listed by an address flush, as long as one bit tells them apart", () => {
    const flushes = (mask: bigint) => {
      const guest = make({ mask }, { rangedFlush: true });
      guest.access(GPA, "write");
      guest.vm.takeFlushes();
      guest.vm.changePage(guest.hva(GPA), { pfn: 0x55_6000n, writable: true, level: 1 });
      const found = guest.vm.takeFlushes();
      expect(guest.vm.takeFlushes()).toEqual([]);
      expectSound(guest);
      return found;
    };
    const gfn = GPA >> 12n;
    expect(flushes(0n)).toEqual([{ gfn, pages: 1n }]);
    expect(flushes(BIT)).toEqual([
      { gfn, pages: 1n },
      { gfn: gfn | (BIT >> 12n), pages: 1n },
    ]);
    expect(flushes(BIT | OTHER)).toBe("all");
  });

  it("can be introduced in any paging mode, and every mapping goes", () => {
    const guest = make({ mask: 0n });
    for (const registers of [registersOf("nopg", 0n), registersOf("32", 0x1000n), registersOf("4level", 0x1000n)]) {
      guest.vcpu.setRegisters(registers);
      guest.vm.setAliases({ mask: 0n });
      expect(guest.access(GPA | OTHER, "read")).not.toBe("ok");
      guest.vm.setAliases({ mask: OTHER });
      guest.vcpu.enterGuest();
      expect(guest.leaf(GPA | OTHER)).toBeUndefined();
      expect(guest.access(GPA | OTHER, "read")).toBe("ok");
    }
    expectSound(guest);
  });
});

it("other aliases reach the contexts of a nested guest that has run before", () => {
  const guest = new NestedNpt(4, "4level", { aliases: { mask: 0n } });
  const [l2, there] = [0x4000_0000n, 0x4020_0000n];
  guest.map(guest.root, l2, HIGH_SLOT);
  guest.map(guest.root, there, HIGH_SLOT | OTHER);
  guest.enter();
  expect(guest.touch(l2, Access.Write | Access.User)).toBe(HIGH_SLOT >> 12n);
  expect(guest.touch(there, Access.Write | Access.User)).not.toBe(HIGH_SLOT >> 12n);
  guest.exit();
  guest.vm.setAliases({ mask: OTHER });
  guest.enter();
  expect(guest.touch(there, Access.Write | Access.User)).toBe(HIGH_SLOT >> 12n);
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});

describe("prefetching in the classic direct MMU", () => {
  it("fills the neighbours of an alias in its own table", () => {
    const guest = new TdpGuest("npt", { tdpMmu: false, aliases: { mask: BIT } });
    guest.access(GPA | BIT, "read");
    expect(guest.leaf((GPA + 0x1000n) | BIT)).toBeDefined();
    expect(guest.leaf(GPA + 0x1000n)).toBeUndefined();
    expectSound(guest);
  });

  it("never maps an alias of the VM's own page", () => {
    const guest = new TdpGuest("npt", { tdpMmu: false, aliases: { mask: BIT } });
    const gpa = 0x8000_0000n;
    const hva = 0x7f00_1000_0000n;
    const ram = guest.vm.createRam(0x8000);
    guest.vm.setSlot({ id: 7, gpa, size: 0x4000, ram, hva });
    guest.vm.setSlot({
      id: 8,
      gpa: gpa + 0x4000n,
      size: 0x4000,
      ram: ram + 0x4000,
      hva: hva + 0x4000n,
      internal: true,
    });
    guest.access((gpa + 0x3000n) | BIT, "read");
    const mapped = [0n, 2n, 4n, 7n].map((page) => guest.leaf((gpa + page * 0x1000n) | BIT) !== undefined);
    expect(mapped).toEqual([true, true, false, false]);
    guest.access(gpa + 0x3000n, "read");
    expect(guest.leaf(gpa + 0x4000n)).toBeDefined();
    expectSound(guest);
  });
});

describe("the memory type", () => {
  it.each([false, true])("is the gfn's through every alias (TDP MMU: %s)", (tdpMmu) => {
    const guest = new TdpGuest("ept", { tdpMmu, aliases: { mask: BIT } });
    const slot = { gpa: 0x8000_0000n, size: 0x4000, hva: 0x7f00_1000_0000n };
    guest.vm.setSlot({ id: 7, ...slot, ram: guest.vm.createRam(0x4000), memoryType: 0 });
    for (const bits of [0n, BIT]) {
      guest.access(slot.gpa | bits, "read");
      guest.access(GPA | bits, "read");
      // Uncached and refined by the guest's table; write-back whatever it says.
      expect((guest.leaf(slot.gpa | bits)!.spte >> 3n) & 15n).toBe(0n);
      expect((guest.leaf(GPA | bits)!.spte >> 3n) & 15n).toBe(0b1110n);
    }
    expectSound(guest);
  });

  it("is one that memory has", () => {
    const guest = new TdpGuest("ept");
    const slot = { id: 7, gpa: 0x8000_0000n, size: 0x4000, ram: 0, memoryType: 2 as 0 };
    expect(() => guest.vm.setSlot(slot)).toThrow(ConfigError);
    expectSound(guest);
  });
});

describe("guest walks", () => {
  const guests = (mask: bigint) => new Guest({ paging: "npt", aliases: { mask } });

  it.each(["4level", "pae"] as const)("pass alias bits on in the address, and go by gfns (%s)", (mode) => {
    const guest = guests(BIT);
    guest.mode = mode;
    const root = guest.table();
    const leaf = guest.map(root, 0x40_0000n, 0x5000n | BIT);
    const vcpu = guest.start(mode, root);
    expect(vcpu.walk(0x40_0123n, 4)).toEqual({ ok: true, gpa: 0x5123n | BIT });
    guest.poke(leaf, 0x5000n | FULL);
    expect(vcpu.walk(0x40_0123n, 4)).toEqual({ ok: true, gpa: 0x5123n });
    // In an entry that leads to a table they say nothing.
    const above = guest.entryAddress(root, 0x40_0000n, guest.levels());
    guest.poke(above, guest.read(above) | BIT);
    if (mode === "pae") vcpu.writeCr3(root);
    expect(vcpu.walk(0x40_0123n, 4)).toEqual({ ok: true, gpa: 0x5123n });
    expectSound(guest);
  });

  it("find bits above MAXPHYADDR reserved where they are not in the mask", () => {
    const guest = guests(1n << 46n);
    const root = guest.table();
    guest.map(root, 0x40_0000n, 0x5000n | BIT);
    guest.map(root, 0x40_1000n, 0x6000n | (1n << 46n));
    const vcpu = guest.start("4level", root);
    expect(vcpu.walk(0x40_0000n, 4)).toEqual({ ok: false, errorCode: 13, address: 0x40_0000n, nested: false });
    expect(vcpu.walk(0x40_1000n, 4)).toEqual({ ok: true, gpa: 0x6000n | (1n << 46n) });
    expectSound(guest);
  });

  it("load a PAE PDPTE that has them, no other reserved bit", () => {
    const guest = guests(BIT);
    guest.mode = "pae";
    const root = guest.table();
    guest.poke(root, guest.table() | BIT | P);
    const vcpu = guest.start("pae", root);
    vcpu.writeCr3(root);
    guest.poke(root, 0x1000n | (1n << 48n) | P);
    expect(() => vcpu.writeCr3(root)).toThrow(GeneralProtectionError);
    expectSound(guest);
  });

  it("never yield them without paging or in 32-bit paging", () => {
    const guest = guests(OTHER);
    guest.mode = "32";
    const root = guest.table();
    // A 4 MiB page with all bits that PSE-36 has.
    guest.poke(root + 4n, 0x40_0000n | 0x1_e000n | FULL | 0x80n);
    const vcpu = guest.start("32", root);
    expect(vcpu.walk(0x40_0123n, 4)).toEqual({ ok: true, gpa: 0xf_0040_0123n });
    vcpu.setRegisters(registersOf("nopg", 0n));
    expect(vcpu.walk(0xffff_f000n, 4)).toEqual({ ok: true, gpa: 0xffff_f000n });
    expectSound(guest);
  });

  it("let an emulated write through an alias reach the page and its log", () => {
    const guest = guests(BIT);
    const vcpu = guest.start("4level", guest.table());
    guest.vm.setSlot({ id: 0, gpa: 0n, size: 1024 * 4096, ram: guest.ram, hva: 0x7f00_0000_0000n, logDirty: true });
    vcpu.emulatedWrite(0x5010n | BIT, Uint8Array.of(1, 2, 3, 4));
    expect([...guest.vm.readGuest(0x5010n, 4)!]).toEqual([1, 2, 3, 4]);
    expect(guest.vm.getDirtyLog(0)).toEqual([5]);
    expectSound(guest);
  });
});

describe("an L1 hypervisor's NPT", () => {
  const make = (config: Partial<VirtualMachineConfig> = {}) =>
    new NestedNpt(4, "4level", { aliases: { mask: BIT | OTHER }, ...config });

  it.each([false, true])("maps a gfn of L1's through entries with alias bits (TDP MMU: %s)", (tdpMmu) => {
    const guest = make({ tdpMmu });
    guest.map(guest.root, 0x1000n, 0x5000n | BIT);
    guest.map(guest.root, 0x2000n, 0x5000n);
    const above = guest.entryAddress(guest.root, 0n, 4);
    guest.poke(above, guest.read(above) | BIT);
    guest.enter();
    expect([guest.touch(0x1000n, Access.Read), guest.touch(0x2000n, Access.Read)]).toEqual([0x5n, 0x5n]);
    expectSound(guest);
  });

  it.each([false, true])("is write-protected in every alias of its tables (TDP MMU: %s)", (tdpMmu) => {
    const guest = make({ tdpMmu });
    const entry = guest.map(guest.root, 0x1000n, 0x5000n);
    const table = entry & ~0xfffn;
    const root = guest.root & ~0xfffn;
    // L1 has every alias of the tables writable before they are shadowed.
    for (const gpa of [table, table | BIT, root, root | BIT])
      expect(guest.touch(gpa, Access.Write)).toBe((gpa % BIT) >> 12n);
    guest.enter();
    guest.touch(0x1000n, Access.Read);
    guest.exit();
    for (const gpa of [root, root | BIT]) {
      const found = guest.second(gpa, Access.Write);
      expect(found.ok).toBe(false);
      expect(guest.vcpu.pageFault(gpa, 7).result).toBe("emulate");
    }
    expectSound(guest);
  });

  it("is prefetched through entries with alias bits", () => {
    const guest = make();
    for (const page of [0n, 1n, 2n]) guest.map(guest.root, page << 12n, (0x5000n + (page << 12n)) | BIT);
    guest.enter();
    guest.touch(0x1000n, Access.Read);
    const found = guest.second(0x2000n, Access.Read);
    expect(found.ok && guest.gfnOf(found.pa)).toBe(7n);
    expectSound(guest);
  });

  it("has one table below a large page of L1's, at whatever addresses of L2's", () => {
    const guest = make();
    for (const gpa of [0x20_0000n, OTHER | 0x20_0000n]) guest.map(guest.root, gpa, HIGH_SLOT, FULL, 2);
    guest.enter();
    for (const bits of [0n, OTHER]) expect(guest.touch(bits | 0x20_3000n, Access.Read)).toBe((HIGH_SLOT >> 12n) + 3n);
    const tables = guest.vm.pages().filter(({ role }) => roleIsDirect(role) && roleIsGuestMode(role));
    expect(tables.map(({ gfn, alias }) => [gfn, alias])).toEqual([[HIGH_SLOT >> 12n, 0n]]);
    expectSound(guest);
  });

  it("hears of a write to its tables through an alias", () => {
    const guest = make();
    const entry = guest.map(guest.root, 0x1000n, 0x5000n);
    guest.enter();
    expect(guest.touch(0x1000n, Access.Read)).toBe(5n);
    guest.exit();
    guest.vcpu.emulatedWrite(entry | BIT, Uint8Array.from([0x67, 0x60, 0, 0, 0, 0, 0, 0]));
    guest.enter();
    expect(guest.touch(0x1000n, Access.Read)).toBe(6n);
    expectSound(guest);
  });

  it("has no alias for its root, and none where L2's own addresses have such bits", () => {
    const guest = make();
    const stage = { ...guest.stage, ncr3: guest.root | BIT } as typeof guest.stage;
    expect(() => guest.vcpu.enterNested(registersOf("nopg", 0n), stage)).toThrow(ConfigError);
    expect(guest.vcpu.inGuestMode).toBe(false);
    guest.map(guest.root, OTHER | 0x3000n, 0x5000n);
    guest.map(guest.root, 0x3000n, 0x6000n);
    guest.enter();
    expect([guest.touch(OTHER | 0x3000n, Access.Read), guest.touch(0x3000n, Access.Read)]).toEqual([5n, 6n]);
    expectSound(guest);
  });
});

describe("execute-only aliases", () => {
  const aliases = { mask: BIT | OTHER, executeOnly: BIT };
  it.each([false, true])("grant execution, and inject other accesses (TDP MMU: %s)", (tdpMmu) => {
    const guest = new TdpGuest("ept", { tdpMmu, aliases });
    expect(guest.access(GPA | BIT, "exec")).toBe("ok");
    expect(guest.leaf(GPA | BIT)!.spte & 7n).toBe(4n);
    for (const [access, error] of [
      ["read", 4],
      ["write", 6],
    ] as const) {
      expect(guest.access(GPA | BIT, access)).not.toBe("ok");
      expect(guest.vcpu.pageFault(GPA | BIT, error)).toEqual({
        result: "inject",
        errorCode: error | 1,
        address: GPA | BIT,
        nested: false,
      });
      for (const bits of [0n, OTHER]) expect(guest.access(GPA | bits, access)).toBe("ok");
    }
    expect(guest.leaf(GPA | BIT)!.spte & 7n).toBe(4n);
    expect(guest.access(0x9000_0000n | BIT, "read")).toBe("mmio");
    expectSound(guest);
  });

  it.each([false, true])(
    "are not told from a misconfiguration, which says nothing of the access (TDP MMU: %s)",
    (tdpMmu) => {
      const guest = new TdpGuest("ept", { tdpMmu, aliases });
      guest.vm.setSlot({ ...guest.slot(1), size: 0 });
      expect(guest.access(LARGE_GPA | BIT, "exec")).toBe("mmio");
      guest.vm.setSlot(guest.slot(1));
      // The MMIO SPTE of before: an exit without an access.
      expect(guest.vcpu.pageFault(LARGE_GPA | BIT, 8).result).toBe("fixed");
      expect(guest.leaf(LARGE_GPA | BIT)!.spte & 7n).toBe(4n);
      expect(guest.access(LARGE_GPA | BIT, "exec")).toBe("ok");
      expectSound(guest);
    },
  );

  it("are prefetched as such", () => {
    const guest = new TdpGuest("ept", { tdpMmu: false, aliases });
    guest.access(GPA | BIT, "exec");
    expect(guest.leaf((GPA + 0x1000n) | BIT)!.spte & 7n).toBe(4n);
    expectSound(guest);
  });

  it("keep their rights through ageing and a large page's split", () => {
    const guest = new TdpGuest("ept without A/D", { aliases });
    guest.access(LARGE_GPA | BIT, "exec");
    const hva = guest.hva(LARGE_GPA);
    guest.vm.age(hva, hva + 0x1000n);
    expect(guest.access(LARGE_GPA | BIT, "exec")).toBe("ok");
    guest.vm.setSlot(guest.slot(1, true));
    expect(guest.leaf((LARGE_GPA + 0x7000n) | BIT)).toMatchObject({ level: 1 });
    expect(guest.leaf((LARGE_GPA + 0x7000n) | BIT)!.spte & 7n).toBe(4n);
    expectSound(guest);
  });
});

describe("refusals", () => {
  const masks = eptMasks({ physBits: 46 });
  const make = (aliases: AliasConfig, config: Partial<VirtualMachineConfig> = {}) =>
    new VirtualMachine(core(), { paging: "ept", masks, hostPhysicalBits: 46, aliases, ...config });
  const npt = { paging: "npt", masks: legacyMasks({ physBits: 46 }) } as const;

  it.each<[string, AliasConfig, Partial<VirtualMachineConfig>]>([
    ["under shadow paging", { mask: BIT }, { ...npt, paging: "shadow" }],
    ["below bit 32", { mask: 1n << 31n }, {}],
    ["that PSE-36 reaches", { mask: 1n << 39n }, {}],
    ["that PSE-36 reaches, whatever MAXPHYADDR", { mask: 1n << 35n }, { hostPhysicalBits: 36 }],
    ["above bit 51", { mask: 1n << 52n }, { tdpLevels: { forced: 5, max: 5 } }],
    ["that the tables do not translate", { mask: 1n << 48n }, {}],
    ["of a 3-level NPT", { mask: BIT }, { ...npt, tdpLevels: { forced: 3, max: 4 } }],
    ["negative", { mask: -BIT }, {}],
    ["execute-only outside the mask", { mask: BIT, executeOnly: OTHER }, {}],
    ["execute-only in NPT", { mask: BIT, executeOnly: BIT }, npt],
    [
      "execute-only without the capability",
      { mask: BIT, executeOnly: BIT },
      { masks: eptMasks({ physBits: 46, executeOnly: false }) },
    ],
  ])("bits %s", (_, aliases, config) => {
    expect(() => make(aliases, config)).toThrow(ConfigError);
    const vm = make({ mask: 0n }, config);
    expect(() => vm.setAliases(aliases)).toThrow(ConfigError);
    expect(vm.aliases).toEqual({ mask: 0n, executeOnly: 0n });
    vm.dispose();
  });

  it.each<[string, bigint, Partial<VirtualMachineConfig>]>([
    ["just above PSE-36", 1n << 40n, {}],
    ["above MAXPHYADDR of a small processor", 1n << 36n, { hostPhysicalBits: 36 }],
    ["at the top of four levels", BIT, {}],
    ["at the top of five", 1n << 51n, { tdpLevels: { forced: 5, max: 5 } }],
  ])("no bits %s", (_, mask, config) => {
    make({ mask }, config).dispose();
  });

  it("MOV to CR3 with alias bits, which raises #GP and changes nothing", () => {
    for (const bit of [OTHER, BIT]) {
      const guest = new TdpGuest("npt", { aliases: { mask: OTHER | BIT } });
      guest.vcpu.enterGuest();
      const root = guest.vcpu.state.rootMmu.roots.current;
      expect(() => guest.vcpu.writeCr3(0x2000n | bit)).toThrow(GeneralProtectionError);
      expect([guest.vcpu.registers.cr3, guest.vcpu.state.rootMmu.roots.current]).toEqual([0x1000n, root]);
      expect(() => guest.vcpu.setRegisters({ ...guest.registers, cr3: 0x2000n | bit })).toThrow(ConfigError);
      expect(() => guest.vm.createVcpu({ ...guest.registers, cr3: bit })).toThrow(ConfigError);
      expectSound(guest);
    }
  });

  it("a nested EPT, before anything changes", () => {
    const guest = new NestedEpt({ aliases: { mask: BIT } });
    expect(() => guest.enter()).toThrow(UnsupportedError);
    expect(guest.vcpu.inGuestMode).toBe(false);
    expect(guest.vcpu.state.mmu).toBe(guest.vcpu.state.rootMmu);
    expectSound(guest);
  });

  it("a slot with alias bits in an address", () => {
    const guest = new TdpGuest("npt", { aliases: { mask: OTHER } });
    const ram = guest.vm.createRam(0x2000);
    const slot = { id: 7, size: 0x2000, ram };
    for (const gpa of [OTHER, OTHER - 0x1000n, 3n * OTHER, 2n * OTHER - 0x2000n]) {
      expect(() => guest.vm.setSlot({ ...slot, gpa })).toThrow(ConfigError);
    }
    guest.vm.setSlot({ ...slot, gpa: OTHER - 0x2000n });
    guest.vm.setSlot({ ...slot, gpa: 2n * OTHER });
    expectSound(guest);
  });

  it("new bits that a slot, a CR3 or a nested guest stands against", () => {
    const guest = new TdpGuest("npt");
    guest.vm.setSlot({ id: 7, gpa: OTHER, size: 0x1000, ram: guest.vm.createRam(0x1000) });
    expect(() => guest.vm.setAliases({ mask: OTHER })).toThrow(/slot 7/);
    guest.vm.setSlot({ id: 7, gpa: OTHER, size: 0 });
    guest.vcpu.writeCr3(OTHER);
    expect(() => guest.vm.setAliases({ mask: OTHER })).toThrow(/CR3/);
    guest.vcpu.writeCr3(0x1000n);
    guest.toggleNested();
    expect(() => guest.vm.setAliases({ mask: OTHER })).toThrow(/nested/);
    guest.toggleNested();
    guest.vm.setAliases({ mask: OTHER });
    expect(guest.access(GPA | OTHER, "write")).toBe("ok");
    expectSound(guest);
  });
});
