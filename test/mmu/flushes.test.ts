/** takeFlushes: whatever drops or restricts a mapping is noted, by a range where that is enough. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import type { VirtualMachineConfig } from "../../src/mmu/index.js";
import { bytesOf, D, FULL, Guest, RAM_HVA, RW } from "./guest.js";
import { NestedNpt } from "./nested-guest.js";
import { FORMATS, type Format, LARGE_GPA, LARGE_PAGES, TdpGuest } from "./tdp-guest.js";

const BIT = 1n << 47n;
const BASE = LARGE_GPA >> 12n;
const HIGH_BIT = BIT >> 12n;
const KINDS = FORMATS.flatMap((format) => [false, true].map((tdpMmu) => ({ format, tdpMmu })));

function make(format: Format, tdpMmu: boolean, config: Partial<VirtualMachineConfig> = {}): TdpGuest {
  return new TdpGuest(format, { tdpMmu, rangedFlush: true, aliases: { mask: BIT }, ...config });
}

/** Ends a test. */
function sound(guest: { vm: { audit(): unknown }; dispose(): void }): void {
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
}

describe.each(KINDS)("flushes ($format, TDP MMU: $tdpMmu)", ({ format, tdpMmu }) => {
  const slot = [
    { gfn: BASE, pages: BigInt(LARGE_PAGES) },
    { gfn: BASE | HIGH_BIT, pages: BigInt(LARGE_PAGES) },
  ];

  it("follow each round of the dirty log, and none where nothing was written", () => {
    const guest = make(format, tdpMmu);
    guest.access(LARGE_GPA, "write");
    guest.vm.setSlot(guest.slot(1, true));
    expect(guest.vm.takeFlushes()).toEqual(slot);
    expect([guest.vm.getDirtyLog(1), guest.vm.takeFlushes()]).toEqual([[], []]);
    guest.access(LARGE_GPA | BIT, "write");
    guest.vm.takeFlushes();
    expect([guest.vm.getDirtyLog(1), guest.vm.takeFlushes()]).toEqual([[0], slot]);
    sound(guest);
  });

  it("follow what manual protection clears", () => {
    const guest = make(format, tdpMmu, { manualDirtyLog: 1 });
    guest.vm.setSlot(guest.slot(1, true));
    guest.access(LARGE_GPA | BIT, "write");
    guest.vm.takeFlushes();
    expect([guest.vm.getDirtyLog(1), guest.vm.takeFlushes()]).toEqual([[0], []]);
    guest.vm.clearDirtyLog(1, 0, 64, [1]);
    expect(guest.vm.takeFlushes()).toEqual([]);
    guest.vm.clearDirtyLog(1, 0, 64, [0]);
    expect(guest.vm.takeFlushes()).toEqual(slot);
    sound(guest);
  });

  it("are of everything where a slot goes or moves, or other bits become aliases", () => {
    const guest = make(format, tdpMmu);
    for (const change of [
      () => guest.vm.setSlot({ ...guest.slot(1), gpa: 2n * LARGE_GPA }),
      () => guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 }),
      () => guest.vm.setAliases({ mask: 0n }),
    ]) {
      for (const gpa of [0x3000n, LARGE_GPA, 2n * LARGE_GPA]) guest.access(gpa, "read");
      guest.vm.takeFlushes();
      change();
      expect(guest.vm.takeFlushes()).toBe("all");
    }
    sound(guest);
  });

  it("are of everything where more changes than the notes hold", () => {
    const guest = make(format, tdpMmu);
    for (const [pages, flush] of [
      [8, 16],
      [9, "all"],
    ] as const) {
      for (let page = 0; page < pages; page++) guest.access(BigInt(page) << 12n, "read");
      guest.vm.takeFlushes();
      for (let page = 0n; page < pages; page++)
        guest.vm.changePage(guest.hva(page << 12n), { pfn: 0x55_5000n + page, writable: true, level: 1 });
      const found = guest.vm.takeFlushes();
      expect(found === "all" ? found : found.length).toBe(flush);
    }
    sound(guest);
  });
});

describe.each([false, true])("a flush of the whole place (TDP MMU: %s)", (tdpMmu) => {
  const place = [
    { gfn: BASE, pages: 512n },
    { gfn: BASE | HIGH_BIT, pages: 512n },
  ];

  it("follows a table's replacement by a large page", () => {
    let level = 1;
    const pin = (hva: bigint) => ({ pfn: 0x4_0000n + ((hva >> 12n) & 0xffffn), writable: true, level });
    const guest = make("npt", tdpMmu, { hostMemory: { pin, peek: () => undefined } });
    guest.access(LARGE_GPA | BIT, "read");
    level = 2;
    guest.vm.takeFlushes();
    guest.access((LARGE_GPA + 0x1000n) | BIT, "read");
    expect(guest.leaf(LARGE_GPA | BIT)!.level).toBe(2);
    expect(guest.vm.takeFlushes()).toEqual(place);
    sound(guest);
  });

  it("follows a large page's replacement by a table", () => {
    const guest = make("ept", tdpMmu, { nxHugePages: true });
    guest.access(LARGE_GPA | BIT, "read");
    guest.vm.takeFlushes();
    guest.access((LARGE_GPA + 0x3000n) | BIT, "exec");
    expect(guest.leaf((LARGE_GPA + 0x3000n) | BIT)!.level).toBe(1);
    expect(guest.vm.takeFlushes()).toEqual(tdpMmu ? place : "all");
    guest.vm.takeFlushes();
    if (tdpMmu) expect([guest.vm.recoverHugePages(1), guest.vm.takeFlushes()]).toEqual([1, "all"]);
    sound(guest);
  });

  it("follows the end of logging, and unmapping is followed by one of everything", () => {
    const guest = make("npt", tdpMmu);
    guest.access(LARGE_GPA, "write");
    guest.vm.setSlot(guest.slot(1, true));
    guest.access(LARGE_GPA, "write");
    guest.vm.takeFlushes();
    guest.vm.setSlot(guest.slot(1));
    expect(guest.vm.takeFlushes()).toContainEqual({ gfn: BASE | HIGH_BIT, pages: BigInt(LARGE_PAGES) });
    guest.access(LARGE_GPA, "write");
    guest.vm.takeFlushes();
    guest.vm.unmapRange(guest.hva(LARGE_GPA), guest.hva(LARGE_GPA) + 0x1000n);
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });
});

describe("an address flush", () => {
  it("covers all that a large page mapped", () => {
    const guest = make("npt", false);
    guest.access(LARGE_GPA + 0x20_5000n, "read");
    guest.vm.takeFlushes();
    guest.vm.changePage(guest.hva(LARGE_GPA + 0x20_7000n), { pfn: 0x55_6000n, writable: true, level: 1 });
    expect(guest.leaf(LARGE_GPA + 0x20_5000n)).toBeUndefined();
    const gfn = (LARGE_GPA + 0x20_0000n) >> 12n;
    expect(guest.vm.takeFlushes()).toEqual([
      { gfn, pages: 512n },
      { gfn: gfn | HIGH_BIT, pages: 512n },
    ]);
    sound(guest);
  });

  it.each(KINDS)("is one of everything where a page has more than two aliases ($format, TDP MMU: $tdpMmu)", (kind) => {
    const other = 1n << 45n;
    const guest = make(kind.format, kind.tdpMmu, { aliases: { mask: BIT | other } });
    for (const alias of [0n, BIT, other, BIT | other]) guest.access(0x3000n | alias, "read");
    guest.vm.takeFlushes();
    guest.vm.changePage(guest.hva(0x3000n), { pfn: 0x55_5000n, writable: true, level: 1 });
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });

  it("is one of everything while L2's own addresses map the page too", () => {
    const guest = new NestedNpt(4, "4level", { rangedFlush: true });
    guest.map(guest.root, 0x1000n, 0x5000n);
    const hva = 0x7f00_0000_5000n;
    guest.touch(0x5000n, Access.Read);
    guest.vm.takeFlushes();
    guest.vm.changePage(hva, { pfn: 0x55_5000n, writable: true, level: 1 });
    expect(guest.vm.takeFlushes()).toEqual([{ gfn: 5n, pages: 1n }]);
    guest.enter();
    expect(guest.touch(0x1000n, Access.Read)).toBe(5n);
    guest.vm.takeFlushes();
    guest.vm.changePage(hva, { pfn: 0x55_5000n, writable: true, level: 1 });
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });

  it("is one of everything under shadow paging, where TLBs go by linear addresses", () => {
    const guest = new Guest({ rangedFlush: true });
    const vcpu = guest.start("nopg", 0n);
    expect(guest.access(0x5000n, Access.Read)).toBe("ok");
    guest.vm.takeFlushes();
    guest.vm.changePage(0x7f00_0000_5000n, { pfn: 0x55_5000n, writable: true, level: 1 });
    expect(guest.vm.takeFlushes()).toBe("all");
    expect(vcpu.state.isDirect).toBe(true);
    sound(guest);
  });
});

it("everything is flushed where a page has so many mappings that all of them go", () => {
  const guest = new Guest({ rangedFlush: true });
  guest.mode = "4level";
  const root = guest.table();
  const gva = (i: number) => 0x40_0000_0000n + (BigInt(i) << 12n);
  const most = 1100;
  for (let i = 0; i < most; i++) guest.map(root, gva(i), 0x20_0000n);
  guest.start("4level", root);
  let gone = 0;
  for (let i = 0; i < most && gone === 0; i++) {
    guest.vm.takeFlushes();
    if (guest.hardware(gva(i), Access.Write).ok) continue;
    expect(guest.vcpu.pageFault(gva(i), 2).result).toBe("fixed");
    if (guest.hardware(gva(0), Access.Write).ok) continue;
    gone = i;
    expect(guest.vm.takeFlushes()).toBe("all");
  }
  expect(gone).toBeGreaterThan(900);
  sound(guest);
});

it("everything is flushed where INVLPG makes a leaf anew, and nothing where there was none", () => {
  const guest = new Guest({ rangedFlush: true });
  guest.mode = "4level";
  const root = guest.table();
  const [gva, table] = [0x40_3000n, 0x50_0000n];
  const leaf = guest.map(root, gva, 0x20_0000n);
  guest.map(root, table, leaf & ~0xfffn);
  guest.start("4level", root);
  expect(guest.access(gva, Access.Write)).toBe("ok");
  // The table becomes unsync.
  expect(guest.write(table + (leaf & 0xfffn), leaf, 0x20_7067n)).toBe("ok");
  guest.vm.takeFlushes();
  guest.vcpu.invlpg(gva + 0x1f_0000n);
  expect(guest.vm.takeFlushes()).toEqual([]);
  guest.vcpu.invlpg(gva);
  expect(guest.vm.takeFlushes()).toBe("all");
  sound(guest);
});

it("everything is flushed where the pages below a guest's large page get other rights", () => {
  const guest = new Guest({ rangedFlush: true });
  guest.mode = "4level";
  const root = guest.table();
  // Clean: it is mapped read-only until the first write, by small pages because the host has no larger ones.
  guest.map(root, 0x40_0000n, 0x20_0000n, FULL & ~D, 2);
  guest.start("4level", root);
  expect(guest.access(0x40_3000n, Access.Read)).toBe("ok");
  guest.vm.takeFlushes();
  expect(guest.access(0x40_4000n, Access.Write)).toBe("ok");
  expect(guest.vm.takeFlushes()).toBe("all");
  sound(guest);
});

it("everything is flushed where a fault finds another page behind a leaf", () => {
  const guest = new Guest({ rangedFlush: true });
  guest.mode = "4level";
  const root = guest.table();
  const [gva, table] = [0x40_3000n, 0x50_0000n];
  const leaf = guest.map(root, gva, 0x20_0000n, FULL & ~RW);
  guest.map(root, table, leaf & ~0xfffn);
  guest.start("4level", root);
  expect(guest.access(gva, Access.Read)).toBe("ok");
  // Unsync: nobody tells of the change.
  expect(guest.write(table + (leaf & 0xfffn), leaf, 0x20_7000n | FULL)).toBe("ok");
  guest.vm.takeFlushes();
  expect(guest.vcpu.pageFault(gva, 3).result).toBe("fixed");
  const found = guest.hardware(gva, Access.Write);
  expect(found.ok && guest.gfnOf(found.pa)).toBe(0x207n);
  expect(guest.vm.takeFlushes()).toBe("all");
  sound(guest);
});

describe("under shadow paging everything is flushed", () => {
  // The window's own entry is in another table: what becomes of it would be a reason of its own.
  const [GVA, WINDOW] = [0x40_3000n, 0x90_0000n];

  /** A leaf for GVA and its neighbour, whose table the guest can write at WINDOW. */
  function editable(flags = FULL) {
    const guest = new Guest({ rangedFlush: true });
    guest.mode = "4level";
    const root = guest.table();
    const leaf = guest.map(root, GVA, 0x20_0000n, flags);
    guest.map(root, GVA + 0x1000n, 0x20_1000n, flags);
    guest.map(root, WINDOW, leaf & ~0xfffn);
    guest.start("4level", root);
    const access = flags & RW ? Access.Write : Access.Read;
    for (const gva of [GVA, GVA + 0x1000n]) expect(guest.access(gva, access)).toBe("ok");
    return { guest, root, leaf };
  }

  /** Synchronising takes accessed bits away, which would be a reason of its own. */
  const age = (guest: Guest) => guest.vm.age(RAM_HVA + 0x20_0000n, RAM_HVA + 0x21_0000n);

  it("where a table that was written is protected again, though nothing in it has changed", () => {
    const { guest, root, leaf } = editable(FULL & ~RW);
    expect(guest.write(WINDOW + (leaf & 0xfffn), leaf, guest.read(leaf))).toBe("ok");
    age(guest);
    guest.vm.takeFlushes();
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    expect(guest.hardware(WINDOW, Access.Write).ok).toBe(false);
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });

  it.each<[string, bigint, bigint]>([
    ["leads to another page", FULL & ~RW, 0x20_7000n | FULL],
    ["is gone", FULL & ~RW, 0n],
    ["is the same: its SPTE loses the dirty bit that the processor may have seen", FULL, 0x20_1000n | FULL],
  ])("where a table is used from elsewhere before its edit was told, and an entry %s", (_what, flags, entry) => {
    const { guest, root, leaf } = editable(flags);
    expect(guest.write(WINDOW + (leaf & 0xfffn) + 8n, leaf + 8n, entry)).toBe("ok");
    // Another directory leads to the table.
    const other = 0x1_0000_3000n;
    guest.map(root, other + 0x20_0000n, 0x20_2000n);
    expect(guest.access(other + 0x20_0000n, Access.Read)).toBe("ok");
    let table = root;
    for (let level = 4; level > 2; level--) table = guest.read(guest.entryAddress(table, other, level)) & ~0xfffn;
    guest.poke(guest.entryAddress(table, other, 2), (leaf & ~0xfffn) | FULL);
    age(guest);
    guest.vm.takeFlushes();
    expect(guest.access(other, Access.Read)).toBe("ok");
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });

  it("where an emulated write changes an entry that was mapped, and nothing where it was not", () => {
    const { guest, leaf } = editable();
    guest.vm.takeFlushes();
    guest.vcpu.emulatedWrite(leaf + 0x100n, bytesOf(0x20_9000n | FULL, 8));
    expect(guest.vm.takeFlushes()).toEqual([]);
    guest.vcpu.emulatedWrite(leaf, bytesOf(0x20_9000n | FULL, 8));
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });

  it("where a page that the guest could write becomes a table", () => {
    const { guest, root } = editable();
    const [page, gva] = [0x18_0000n, 0x1_0060_0000n];
    guest.map(root, GVA + 0x2000n, page);
    guest.map(root, gva + 0x20_0000n, 0x20_2000n);
    for (const at of [GVA + 0x2000n, gva + 0x20_0000n]) expect(guest.access(at, Access.Write)).toBe("ok");
    guest.poke(page, 0x20_3000n | FULL);
    let table = root;
    for (let level = 4; level > 2; level--) table = guest.read(guest.entryAddress(table, gva, level)) & ~0xfffn;
    guest.poke(guest.entryAddress(table, gva, 2), page | FULL);
    guest.vm.takeFlushes();
    expect(guest.access(gva, Access.Read)).toBe("ok");
    expect(guest.hardware(GVA + 0x2000n, Access.Write).ok).toBe(false);
    expect(guest.vm.takeFlushes()).toBe("all");
    sound(guest);
  });
});
