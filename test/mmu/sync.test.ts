/** Unsync pages: when tables become so, and when they are synchronised. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { roleLevel } from "../../src/role/index.js";
import { bytesOf, FULL, Guest, type Mode, registersOf } from "./guest.js";

const GVA = 0x40_3000n;
const PAGE = 0x20_0000n;

/** A guest that can write the table of GVA's leaf entry at `window`. */
function editable(mode: Mode) {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  const leaf = guest.map(root, GVA, PAGE);
  for (let i = 1n; i < 4n; i++) guest.map(root, GVA + (i << 12n), PAGE + (i << 12n));
  const table = leaf & ~0xfffn;
  guest.map(root, 0x10_0000n, table);
  guest.start(mode, root);
  const gfn = (gva = GVA) => {
    const found = guest.hardware(gva, Access.Read);
    return found.ok ? guest.gfnOf(found.pa) : undefined;
  };
  return { guest, root, leaf, window: 0x10_0000n + (leaf & 0xfffn), gfn };
}

describe.each(["32", "pae", "4level", "5level"] as const)("a %s guest that edits its tables", (mode) => {
  it("makes a level-1 table unsync by writing it, and may keep a stale translation until it flushes", () => {
    const { guest, leaf, window, gfn } = editable(mode);
    guest.access(GVA, Access.Write);
    expect(guest.write(window, leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    expect(guest.vm.pages().filter((page) => page.unsync)).toHaveLength(1);
    expect(gfn()).toBe(0x200n);
    guest.vcpu.invlpg(GVA);
    expect(gfn()).toBe(0x209n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("sees every edit after a CR3 write, and its table is read-only again", () => {
    const { guest, root, leaf, window, gfn } = editable(mode);
    guest.access(GVA, Access.Write);
    guest.access(GVA + 0x1000n, Access.Write);
    guest.write(window, leaf, 0n);
    guest.poke(leaf + BigInt(guest.entryBytes), (PAGE + 0x5000n) | (FULL & ~2n));
    expect(guest.vm.counter("UNSYNC")).toBe(1);
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    expect(guest.vm.counter("UNSYNC")).toBe(0);
    expect(gfn()).toBeUndefined();
    expect(guest.hardware(GVA + 0x1000n, Access.Write).ok).toBe(false);
    expect(guest.hardware(window, Access.Write).ok).toBe(false);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("gains no right by an edit that a table above denies", () => {
    const { guest, root, leaf, window } = editable(mode);
    let table = root;
    for (let level = guest.levels(); level > 2; level--) {
      table = guest.read(guest.entryAddress(table, GVA, level)) & 0x000f_ffff_ffff_f000n;
    }
    const upper = guest.entryAddress(table, GVA, 2);
    guest.poke(upper, guest.read(upper) & ~2n);
    guest.poke(leaf, PAGE | (FULL & ~2n));
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.write(window, leaf, PAGE | FULL)).toBe("ok");
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    expect(guest.hardware(GVA, Access.Read).ok).toBe(true);
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    expect(guest.access(GVA, Access.Write)).toBe("#PF 3");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("has writes to upper tables emulated", () => {
    const { guest, root, gfn } = editable(mode);
    guest.access(GVA, Access.Read);
    const upper = guest.entryAddress(root, GVA, mode === "pae" ? 2 : guest.levels());
    const table = mode === "pae" ? guest.read(guest.entryAddress(root, GVA, 3)) & ~0xfffn : root;
    const entry = mode === "pae" ? guest.entryAddress(table, GVA, 2) : upper;
    guest.map(root, 0x10_1000n, entry & ~0xfffn);
    expect(guest.write(0x10_1000n + (entry & 0xfffn), entry, 0n)).toBe("emulate");
    expect(gfn()).toBeUndefined();
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("loses a table's shadow page when it writes it three times without walking it", () => {
    const { guest, root } = editable(mode);
    guest.access(GVA, Access.Read);
    const table = mode === "pae" ? guest.read(guest.entryAddress(root, GVA, 3)) & ~0xfffn : root;
    const count = () => guest.vm.pages().filter((page) => page.gfn === table >> 12n && roleLevel(page.role) > 1).length;
    const before = count();
    const unused = table + 0x7f8n;
    for (let i = 0; i < 2; i++) guest.vcpu.emulatedWrite(unused, bytesOf(0n, guest.entryBytes));
    expect(count()).toBe(before);
    guest.vcpu.emulatedWrite(unused, bytesOf(0n, guest.entryBytes));
    expect(count()).toBeLessThan(before);
    expect(guest.vm.counter("FLOODED")).toBeGreaterThan(0);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    guest.dispose();
  });

  it.each([
    ["two bytes", 0n, 2, true],
    ["a write across two entries", 4n, 8, true],
    ["one byte at an entry's start", 0n, 1, false],
    ["a whole entry", 0n, 8, false],
  ] as const)("loses a table's shadow page by %s only if that is misaligned", (_name, offset, length, zapped) => {
    if (mode === "32" && length === 8) return;
    const { guest, root } = editable(mode);
    guest.access(GVA, Access.Read);
    const table = mode === "pae" ? guest.read(guest.entryAddress(root, GVA, 3)) & ~0xfffn : root;
    const shadowed = () => guest.vm.pages().filter((page) => page.gfn === table >> 12n && roleLevel(page.role) > 1);
    const before = shadowed().length;
    guest.vcpu.emulatedWrite(table + 0x7f0n + offset, new Uint8Array(length));
    expect(shadowed().length < before).toBe(zapped);
    guest.dispose();
  });
});

describe("a table that becomes reachable", () => {
  it("is synchronised before it is linked, because the guest need not flush for a new entry", () => {
    const { guest, root, leaf, window } = editable("4level");
    guest.access(GVA, Access.Write);
    expect(guest.write(window, leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    // Another root table leads to the same tables; the switch to it flushes only what it reaches itself.
    const other = guest.table();
    guest.poke(guest.entryAddress(other, GVA, 4), guest.read(guest.entryAddress(root, GVA, 4)));
    guest.vcpu.writeCr3(other);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok && guest.gfnOf(found.pa)).toBe(0x209n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("is synchronised whole: not only where the fault that links it leads", () => {
    const { guest, root, leaf, window } = editable("4level");
    guest.access(GVA, Access.Write);
    guest.access(GVA + 0x1000n, Access.Read);
    expect(guest.write(window + 8n, leaf + 8n, (PAGE + 0x9000n) | FULL)).toBe("ok");
    const other = guest.table();
    guest.poke(guest.entryAddress(other, GVA, 4), guest.read(guest.entryAddress(root, GVA, 4)));
    guest.vcpu.writeCr3(other);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const found = guest.hardware(GVA + 0x1000n, Access.Read);
    expect(found.ok ? guest.gfnOf(found.pa) : 0x209n).toBe(0x209n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a root that was zapped while another vCPU still runs on it", () => {
  it("does not count as a shadow page of its table any more", () => {
    const { guest, root } = editable("4level");
    const other = guest.vm.createVcpu(guest.vcpu.registers);
    other.enterGuest();
    const second = guest.table();
    guest.map(second, GVA, root);
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    guest.vcpu.writeCr3(second);
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    expect(guest.vm.counter("UNSYNC")).toBe(0);
    expect(guest.vm.counter("BROKEN")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a fault", () => {
  it("is retried while the root is zapped and no other has been loaded", () => {
    const { guest } = editable("4level");
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    guest.vcpu.enterGuest();
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    guest.dispose();
  });
});

describe("PDPTEs", () => {
  it("are loaded again when CR4.PGE changes, and the root follows them", () => {
    const { guest, root, gfn } = editable("pae");
    guest.access(GVA, Access.Read);
    const directory = guest.table();
    const table = guest.table();
    guest.poke(guest.entryAddress(directory, GVA, 2), table | FULL);
    guest.poke(guest.entryAddress(table, GVA, 1), (PAGE + 0x7000n) | FULL);
    guest.poke(root, directory | 1n);
    guest.access(GVA, Access.Read);
    expect(gfn()).toBe(0x200n);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 ^ 0x80n);
    guest.access(GVA, Access.Read);
    expect(gfn()).toBe(0x207n);
    guest.dispose();
  });

  it("with reserved bits make the register write fail and change nothing", () => {
    const { guest, root } = editable("pae");
    const bad = guest.table();
    guest.poke(bad, 0x3n);
    expect(() => guest.vcpu.writeCr3(bad)).toThrow("reserved bits");
    expect(guest.vcpu.registers.cr3).toBe(root);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    guest.dispose();
  });
});

describe("the assertion on roles in sync", () => {
  it("fires for a page of another role, and counts it", () => {
    const { guest, root, leaf, window } = editable("4level");
    guest.access(GVA, Access.Write);
    guest.write(window, leaf, (PAGE + 0x9000n) | FULL);
    const page = guest.vm.pages().find((one) => one.unsync)!;
    // The same table in a context with CR0.WP=0.
    const other = guest.vm.createVcpu(registersOf("4level", root, { wp: false }));
    expect(other.state.core.syncPage(page.pointer)).toBe(-1);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(1);
    expect(guest.vcpu.state.core.syncPage(page.pointer)).not.toBe(-1);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(1);
    guest.dispose();
  });

  it("fires for direct pages", () => {
    const guest = new Guest();
    guest.start("nopg", 0n);
    guest.access(PAGE, Access.Read);
    const direct = guest.vm.pages().find((page) => roleLevel(page.role) === 1)!;
    expect(guest.vcpu.state.core.syncPage(direct.pointer)).toBe(-1);
    guest.dispose();
  });

  it("does not fire when contexts with different roles share an unsync table", () => {
    const { guest, root, leaf, window } = editable("4level");
    const other = guest.vm.createVcpu(registersOf("4level", root, { wp: false }));
    other.enterGuest();
    guest.access(GVA, Access.Write);
    guest.access(GVA, Access.Write, other);
    guest.write(window, leaf, (PAGE + 0x9000n) | FULL);
    for (const vcpu of [other, guest.vcpu]) {
      vcpu.writeCr3(root);
      vcpu.enterGuest();
      const found = guest.hardware(GVA, Access.Read, vcpu);
      if (found.ok) expect(guest.gfnOf(found.pa)).toBe(0x209n);
    }
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("CR0.WP=0", () => {
  it("lets the supervisor write a read-only user page, then takes that away at the next user access", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, GVA, PAGE, 0x65n);
    guest.start("4level", root, { wp: false });
    expect(guest.access(GVA, Access.Read | Access.User)).toBe("ok");
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    expect(guest.hardware(GVA, Access.Read | Access.User).ok).toBe(false);
    expect(guest.access(GVA, Access.Read | Access.User)).toBe("ok");
    expect(guest.hardware(GVA, Access.Write).ok).toBe(false);
    expect(guest.access(GVA, Access.Write | Access.User)).toBe("#PF 7");
    guest.dispose();
  });

  it("does not let the supervisor execute such a page under SMEP", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, GVA, PAGE, 0x65n);
    guest.start("4level", root, { wp: false, cr4: 1n << 20n });
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    expect(guest.hardware(GVA, Access.Fetch).ok).toBe(false);
    expect(guest.access(GVA, Access.Fetch)).toBe("#PF 11");
    guest.dispose();
  });
});

describe("INVLPG under PCIDs", () => {
  it("reaches roots of the PCID that are not current, which a CR3 write without a flush brings back", () => {
    const NO_FLUSH = 1n << 63n;
    const guest = new Guest();
    guest.mode = "4level";
    const roots = [guest.table(), guest.table()] as const;
    const leaf = guest.map(roots[0], GVA, PAGE);
    guest.map(roots[1], GVA, PAGE + 0x1000n);
    const window = 0x10_0000n;
    guest.map(roots[1], window, leaf & ~0xfffn);
    guest.start("4level", roots[0] | 1n, { cr4: 0x2_0000n });
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    guest.vcpu.writeCr3(roots[1] | 1n | NO_FLUSH);
    expect(guest.write(window + (leaf & 0xfffn), leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    guest.vcpu.invlpg(GVA);
    guest.vcpu.writeCr3(roots[0] | 1n | NO_FLUSH);
    guest.vcpu.enterGuest();
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok ? guest.gfnOf(found.pa) : 0x209n).toBe(0x209n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a flush of everything under PCIDs", () => {
  const NO_FLUSH = 1n << 63n;

  it.each<[string, (guest: Guest) => void]>([
    ["INVPCID of all contexts", (guest) => guest.vcpu.invpcid(2, 0, 0n)],
    ["INVPCID of all but globals", (guest) => guest.vcpu.invpcid(3, 0, 0n)],
    ["INVPCID of the other context", (guest) => guest.vcpu.invpcid(1, 2, 0n)],
    ["a write that changes CR4.PGE", (guest) => guest.vcpu.writeCr4(guest.vcpu.registers.cr4 ^ 0x80n)],
  ])("reaches roots that a CR3 write without a flush brings back: %s", (_what, flush) => {
    const guest = new Guest();
    guest.mode = "4level";
    const roots = [guest.table(), guest.table()] as const;
    const leaf = guest.map(roots[0], GVA, PAGE);
    const window = 0x10_0000n;
    guest.map(roots[1], window, leaf & ~0xfffn);
    guest.start("4level", roots[0] | 2n, { cr4: 0x2_0000n });
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    guest.vcpu.writeCr3(roots[1] | 1n | NO_FLUSH);
    expect(guest.write(window + (leaf & 0xfffn), leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    flush(guest);
    guest.vcpu.enterGuest();
    guest.vcpu.writeCr3(roots[0] | 2n | NO_FLUSH);
    guest.vcpu.enterGuest();
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok ? guest.gfnOf(found.pa) : 0x209n).toBe(0x209n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a flush", () => {
  it("synchronises every table that was written, however many there are below one directory", () => {
    const guest = new Guest();
    guest.mode = "4level";
    const root = guest.table();
    // More than one collection holds, in two directories.
    const gvas = Array.from({ length: 20 }, (_, i) => GVA + (BigInt(i % 2) << 30n) + (BigInt(i >> 1) << 21n));
    const leaves = gvas.map((gva) => guest.map(root, gva, PAGE));
    const window = (i: number) => 0x1_0000_0000n + (BigInt(i) << 12n);
    leaves.forEach((leaf, i) => {
      guest.map(root, window(i), leaf & ~0xfffn);
    });
    guest.start("4level", root);
    for (const gva of gvas) expect(guest.access(gva, Access.Read)).toBe("ok");
    leaves.forEach((leaf, i) => {
      expect(guest.write(window(i) + (leaf & 0xfffn), leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    });
    expect(guest.vm.counter("UNSYNC")).toBe(gvas.length);
    expect(guest.vm.audit()).toEqual([]);
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    expect(guest.vm.counter("UNSYNC")).toBe(0);
    for (const gva of gvas) {
      const found = guest.hardware(gva, Access.Read);
      expect(found.ok ? guest.gfnOf(found.pa) : 0x209n).toBe(0x209n);
    }
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("leaves the other tables below a directory marked where one of them goes", () => {
    const { guest, root, leaf, window } = editable("4level");
    const gva = GVA + 0x20_0000n;
    const second = guest.map(root, gva, PAGE);
    guest.map(root, 0x10_1000n, second & ~0xfffn);
    for (const at of [GVA, gva]) expect(guest.access(at, Access.Read)).toBe("ok");
    expect(guest.write(window, leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    expect(guest.write(0x10_1000n + (second & 0xfffn), second, (PAGE + 0x9000n) | FULL)).toBe("ok");
    // A page that leads to both is zapped, with them.
    guest.vm.unprotectGfn(guest.read(guest.entryAddress(root, GVA, 4)) >> 12n);
    expect([guest.vm.counter("UNSYNC"), guest.vm.counter("BROKEN")]).toEqual([0, 0]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each([
    ["fewer", FULL & ~2n, 1],
    ["other", (FULL & ~4n) | (1n << 63n), 2],
    ["more", FULL, 7],
  ] as const)("makes the rights that a leaf stands for those of the guest's entry (%s)", (_what, flags, rights) => {
    const { guest, root, leaf, window } = editable("4level");
    guest.poke(leaf, PAGE | (flags === FULL ? FULL & ~2n : FULL));
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.write(window, leaf, PAGE | flags)).toBe("ok");
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    const page = guest.vm.pages().find((one) => one.gfn === leaf >> 12n && roleLevel(one.role) === 1)!;
    const index = Number((leaf & 0xfffn) / 8n);
    expect(page.entries.has(index)).toBe(true);
    const found = page.shadowed.get(index)!;
    expect([found >> 12n, Number(found & 7n)]).toEqual([PAGE >> 12n, rights === 1 ? 5 : rights]);
    guest.dispose();
  });
});
