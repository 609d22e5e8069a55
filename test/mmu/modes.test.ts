/** Guests of every paging mode under shadow paging, their roles, and changes of mode. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { roleLevel } from "../../src/role/index.js";
import { FULL, Guest, HIGH_SLOT, MMIO_GPA, type Mode, P, RAM_HVA, RAM_PAGES, US } from "./guest.js";

const GVA = 0x40_3000n;

/** Page and CPU roles in the layout of Linux 6.1: this project's own bits stripped. */
function kernelRole(role: number): number {
  return (role & ~(0x1f << 18)) >>> 0;
}

function guestIn(mode: Mode, options = {}): { guest: Guest; root: bigint } {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  if (mode !== "nopg") {
    guest.map(root, GVA, 0x20_0000n);
    guest.map(root, 0x10_0000n, 0x10_0000n);
  }
  guest.start(mode, root, options);
  return { guest, root };
}

describe("roles of Linux 6.1 under shadow paging", () => {
  const cr4 = { smep: 1n << 20n, smap: 1n << 21n };
  it.each([
    ["4-level with WP and NX", "4level", {}, 0x3704, 0x81_0000_3704n],
    ["4-level, WP=0", "4level", { wp: false }, 0x1704, 0x81_0000_1704n],
    ["4-level, WP=0, SMEP", "4level", { wp: false, cr4: cr4.smep }, 0x5704, 0xa1_0000_5704n],
    ["4-level, WP=0, SMAP", "4level", { wp: false, cr4: cr4.smap }, 0x9704, 0x91_0000_9704n],
    ["4-level, WP=0, both", "4level", { wp: false, cr4: cr4.smep | cr4.smap }, 0xd704, 0xb1_0000_d704n],
    ["4-level without NX", "4level", { nx: false }, 0x3704, 0x81_0000_2704n],
    ["PAE", "pae", {}, 0x3703, 0x1_0000_3703n],
    ["32-bit without NX", "32", { nx: false }, 0x3713, 0x5_0000_2712n],
    ["no paging", "nopg", {}, 0x1783, undefined],
  ] as const)("%s", (_name, mode, options, root, cpu) => {
    const { guest } = guestIn(mode, options);
    expect(kernelRole(guest.vcpu.state.rootMmu.rootRole)).toBe(root);
    if (cpu !== undefined) expect(guest.vcpu.state.rootMmu.state().cpuRole).toBe(cpu);
    guest.dispose();
  });

  it("gives 32-bit leaf tables 0x3711 and 0x3731, and their directories four quadrants", () => {
    const { guest } = guestIn("32");
    guest.access(GVA, Access.Read);
    const roles = guest.vm.pages().map((page) => kernelRole(page.role).toString(16));
    expect(roles).toContain("3711");
    for (const quadrant of ["3712", "3732", "3752", "3772"]) expect(roles).toContain(quadrant);
    guest.dispose();
  });

  it("gives the four level-2 pages of an unpaged guest role 0x1782", () => {
    const { guest } = guestIn("nopg");
    const pages = guest.vm.pages().filter((page) => roleLevel(page.role) === 2);
    expect(pages.map((page) => [page.gfn, kernelRole(page.role)])).toEqual(
      [0xc0000n, 0x80000n, 0x40000n, 0n].map((gfn) => [gfn, 0x1782]),
    );
    guest.dispose();
  });
});

describe.each(["nopg", "32", "pae", "4level", "5level"] as const)("a %s guest", (mode) => {
  const gva = mode === "nopg" ? 0x20_0000n : GVA;

  it("reads and writes through the shadow tables what its own tables map", () => {
    const { guest } = guestIn(mode);
    expect(guest.access(gva + 8n, Access.Read)).toBe("ok");
    expect(guest.access(gva + 8n, Access.Write)).toBe("ok");
    const found = guest.hardware(gva + 8n, Access.Write);
    expect(found.ok && guest.gfnOf(found.pa)).toBe(0x200n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  if (mode !== "nopg") {
    it("does not touch a fault that is fixed already", () => {
      const { guest, root } = guestIn(mode);
      guest.map(root, 0x50_0000n, 0x20_1000n, P | US | 0x20n);
      guest.access(0x50_0000n, Access.Read);
      const before = guest.vm.pages();
      expect(guest.vcpu.pageFault(0x50_0000n, 0).result).toBe("spurious");
      expect(guest.vm.pages()).toEqual(before);
      guest.dispose();
    });

    it("gets its own page fault where its tables have nothing", () => {
      const { guest } = guestIn(mode);
      expect(guest.access(0x80_0000n, Access.Read)).toBe("#PF 0");
      expect(guest.access(0x80_0000n, Access.Write | Access.User)).toBe("#PF 6");
      guest.dispose();
    });

    it("may not write a read-only page, and nobody but the supervisor a supervisor page", () => {
      const { guest, root } = guestIn(mode);
      guest.map(root, 0x50_0000n, 0x20_1000n, P | US | 0x60n);
      guest.map(root, 0x50_1000n, 0x20_2000n, FULL & ~US);
      expect(guest.access(0x50_0000n, Access.Read | Access.User)).toBe("ok");
      expect(guest.access(0x50_0000n, Access.Write)).toBe("#PF 3");
      expect(guest.access(0x50_1000n, Access.Write)).toBe("ok");
      expect(guest.access(0x50_1000n, Access.Read | Access.User)).toBe("#PF 5");
      guest.dispose();
    });

    it("sets accessed and dirty bits in its tables, and maps a clean page read-only", () => {
      const { guest, root } = guestIn(mode);
      const leaf = guest.map(root, 0x50_0000n, 0x20_1000n, FULL & ~0x60n);
      guest.access(0x50_0000n, Access.Read);
      expect(guest.read(leaf) & 0x60n).toBe(0x20n);
      expect(guest.hardware(0x50_0000n, Access.Write).ok).toBe(false);
      guest.access(0x50_0000n, Access.Write);
      expect(guest.read(leaf) & 0x60n).toBe(0x60n);
      guest.dispose();
    });

    it("finds MMIO where no slot lies, and remembers it until the slots change", () => {
      const { guest, root } = guestIn(mode);
      guest.map(root, 0x60_0000n, MMIO_GPA);
      expect(guest.access(0x60_0000n, Access.Read)).toBe("mmio");
      const again = guest.hardware(0x60_0000n, Access.Read);
      expect(again.ok ? 0n : again.errorCode & 9n).toBe(9n);
      expect(guest.vcpu.pageFault(0x60_0000n, 9).result).toBe("mmio");
      const before = guest.vm.state.slots.generation(0);
      const ram = guest.vm.createRam(4096);
      guest.vm.setSlot({ id: 2, gpa: MMIO_GPA, size: 4096, ram });
      expect(guest.vm.state.slots.generation(0)).toBe(before + 2n);
      expect(guest.access(0x60_0000n, Access.Read)).toBe("ok");
      expect(guest.vm.audit()).toEqual([]);
      guest.dispose();
    });
  }
});

describe("large pages", () => {
  it.each([
    ["4level", 2],
    ["4level", 3],
    ["pae", 2],
    ["32", 2],
  ] as const)("of a %s guest at level %i are as large as slot and host allow", (mode, level) => {
    const guest = new Guest({
      hostMemory: {
        pin: (hva) => ({ pfn: 0x10_0000n + ((hva & 0xffff_ffffn) >> 12n), writable: true, level: 2 }),
        peek: () => undefined,
      },
    });
    guest.mode = mode;
    const root = guest.table();
    const gva = 0x4000_0000n;
    guest.map(root, gva, HIGH_SLOT, FULL, level);
    guest.start(mode, root);
    expect(guest.access(gva + 0x5000n, Access.Write)).toBe("ok");
    const leaf = guest.vm.pages().flatMap((page) => [...page.entries.values()].map((spte) => ({ page, spte })));
    const large = leaf.filter(({ page, spte }) => roleLevel(page.role) === 2 && (spte & 0x80n) !== 0n);
    expect(large).toHaveLength(1);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each(["4level", "pae", "32"] as const)(
    "of different rights share no small ones once one is written (%s)",
    (mode) => {
      const guest = new Guest();
      guest.mode = mode;
      const root = guest.table();
      // Both may be read only at first: one because it is clean, the other for good.
      const [clean, readOnly] = [0x4000_0000n, 0x4040_0000n];
      guest.map(root, clean, HIGH_SLOT, FULL & ~0x40n, 2);
      guest.map(root, readOnly, HIGH_SLOT, FULL & ~2n, 2);
      guest.start(mode, root);
      for (const gva of [clean, readOnly]) expect(guest.access(gva + 0x3000n, Access.Read)).toBe("ok");
      expect(guest.access(clean + 0x3000n, Access.Write)).toBe("ok");
      expect(guest.hardware(readOnly + 0x3000n, Access.Write).ok).toBe(false);
      expect(guest.access(readOnly + 0x3000n, Access.Write)).toBe("#PF 3");
      expect(guest.vm.audit()).toEqual([]);
      guest.dispose();
    },
  );

  it("is split into small ones while the slot logs writes, and comes back when logging ends", () => {
    const guest = new Guest({
      hostMemory: {
        pin: (hva) => ({ pfn: 0x10_0000n + ((hva & 0xffff_ffffn) >> 12n), writable: true, level: 2 }),
        peek: () => undefined,
      },
    });
    const root = guest.table();
    guest.map(root, 0x4000_0000n, HIGH_SLOT, FULL, 2);
    guest.start("4level", root);
    guest.access(0x4000_0000n, Access.Write);
    const slot = { id: 1, gpa: HIGH_SLOT, size: 4 << 20 };
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(guest.access(0x4000_5000n, Access.Write)).toBe("ok");
    expect(guest.vm.getDirtyLog(1)).toEqual([5]);
    const leaves = (level: number) =>
      guest.vm.pages().flatMap((page) => (roleLevel(page.role) === level ? [...page.entries.values()] : []));
    expect(leaves(2).some((spte) => (spte & 0x880n) === 0x880n)).toBe(false);
    guest.vm.setSlot({ ...slot, logDirty: false });
    expect(guest.access(0x4000_5000n, Access.Write)).toBe("ok");
    expect(leaves(2).some((spte) => (spte & 0x880n) === 0x880n)).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a page that is a table in one address space", () => {
  it.each([
    ["the normal one", false],
    ["system-management mode's", true],
  ])("is not written unnoticed through the other: %s", (_, inSmm) => {
    const { guest, root } = guestIn("4level");
    guest.vm.setSlot({ id: 0, addressSpace: 1, gpa: 0n, size: RAM_PAGES * 4096, ram: guest.ram, hva: RAM_HVA });
    const { vcpu } = guest;
    const { registers } = vcpu;
    // The tables of both: the ordinary guest's at `root`, and those of a handler that pages too.
    const other = guest.start("4level", root);
    if (inSmm) {
      other.enterSmm();
      other.setRegisters(registers);
    } else vcpu.enterSmm();
    const writer = vcpu;
    expect(guest.access(GVA, Access.Write, other)).toBe("ok");
    // The one that writes has tables of its own.
    const directory = guest.read(guest.entryAddress(root, GVA, 4)) & ~0xfffn;
    const own = guest.table();
    guest.map(own, 0x80_0000n, directory);
    writer.setRegisters({ ...registers, cr3: own });
    expect(guest.access(0x80_0000n, Access.Write, writer)).toBe("emulate");
    expect(guest.vm.audit()).toEqual([]);
    // Zapped, they are tables in neither.
    for (let gfn = 0x100n; gfn < 0x110n; gfn++) guest.vm.unprotectGfn(gfn);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});
