/** Which roots are kept, found again and freed. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { bytesOf, Guest, MMIO_GPA, type Mode } from "./guest.js";

const GVA = 0x40_3000n;

/** A guest with `count` root tables, each mapping GVA to another page. */
function withRoots(mode: Mode, count: number): { guest: Guest; roots: bigint[] } {
  const guest = new Guest();
  guest.mode = mode;
  const roots = Array.from({ length: count }, () => guest.table());
  roots.forEach((root, i) => {
    guest.map(root, GVA, 0x20_0000n + (BigInt(i) << 12n));
  });
  guest.start(mode, roots[0]!);
  return { guest, roots };
}

function switchTo(guest: Guest, root: bigint): void {
  guest.vcpu.writeCr3(root);
  guest.vcpu.enterGuest();
}

describe.each(["32", "pae", "4level", "5level"] as const)("the root cache of a %s guest", (mode) => {
  it("keeps the current and three previous roots", () => {
    const { guest, roots } = withRoots(mode, 4);
    for (const root of roots.slice(1)) switchTo(guest, root);
    const { hits } = guest.vcpu.state.rootMmu.roots;
    for (let i = 0; i < 20; i++) switchTo(guest, roots[(i * 3) % 4]!);
    expect(guest.vcpu.state.rootMmu.roots.hits - hits).toBe(19 + 1);
    guest.dispose();
  });

  it("forgets the least recently used root", () => {
    const { guest, roots } = withRoots(mode, 5);
    for (const root of roots) switchTo(guest, root);
    const { misses } = guest.vcpu.state.rootMmu.roots;
    switchTo(guest, roots[0]!);
    expect(guest.vcpu.state.rootMmu.roots.misses - misses).toBe(1);
    switchTo(guest, roots[4]!);
    expect(guest.vcpu.state.rootMmu.roots.misses - misses).toBe(1);
    guest.dispose();
  });

  it("swaps a hit to the front and moves the others back", () => {
    const { guest, roots } = withRoots(mode, 4);
    for (const root of roots.slice(1)) switchTo(guest, root);
    const previous = () => [0, 1, 2].map((i) => guest.vcpu.state.rootMmu.roots.previous(i).pgd);
    expect(previous()).toEqual([roots[2], roots[1], roots[0]]);
    switchTo(guest, roots[1]!);
    expect(guest.vcpu.state.rootMmu.roots.current.pgd).toBe(roots[1]);
    expect(previous()).toEqual([roots[3], roots[2], roots[0]]);
    guest.dispose();
  });

  it("closes the gap that a root leaves where there was no current one", () => {
    const { guest, roots } = withRoots(mode, 5);
    for (const root of roots.slice(1, 4)) switchTo(guest, root);
    const previous = () =>
      [0, 1, 2].map((i) => guest.vcpu.state.rootMmu.roots.previous(i)).map((root) => root.page && root.pgd);
    // Not found: there is no current root until the guest is entered, and it is not.
    guest.vcpu.writeCr3(roots[4]!);
    expect([guest.vcpu.state.rootMmu.roots.currentPage, ...previous()]).toEqual([0, roots[3], roots[2], roots[1]]);
    guest.vcpu.writeCr3(roots[2]!);
    expect([guest.vcpu.state.rootMmu.roots.current.pgd, ...previous()]).toEqual([roots[2], roots[3], roots[1], 0]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("gives each root its own translation", () => {
    const { guest, roots } = withRoots(mode, 4);
    for (let round = 0; round < 3; round++) {
      roots.forEach((root, i) => {
        switchTo(guest, root);
        expect(guest.access(GVA, Access.Read)).toBe("ok");
        const found = guest.hardware(GVA, Access.Read);
        expect(found.ok && guest.gfnOf(found.pa)).toBe(0x200n + BigInt(i));
      });
    }
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("counts the writes to a root's table anew when the root is used again", () => {
    if (mode === "32" || mode === "pae") return;
    const { guest, roots } = withRoots(mode, 2);
    const flood = () => guest.vm.pages().find((page) => page.gfn === roots[0]! >> 12n)!.writeFlooding;
    const write = () => guest.vcpu.emulatedWrite(roots[0]! + 0xff8n, bytesOf(0n, 8));
    write();
    write();
    expect(flood()).toBe(2);
    switchTo(guest, roots[1]!);
    switchTo(guest, roots[0]!);
    expect(flood()).toBe(0);
    write();
    expect(guest.vm.counter("FLOODED")).toBe(0);
    guest.dispose();
  });

  it("counts the writes to a root's table anew when it is found again outside of the cache", () => {
    if (mode === "32" || mode === "pae") return;
    const { guest, roots } = withRoots(mode, 5);
    for (const root of roots.slice(1)) switchTo(guest, root);
    const flood = () => guest.vm.pages().find((page) => page.gfn === roots[0]! >> 12n)!.writeFlooding;
    for (let i = 0; i < 2; i++) guest.vcpu.emulatedWrite(roots[0]! + 0xff8n, bytesOf(0n, 8));
    expect(flood()).toBe(2);
    switchTo(guest, roots[0]!);
    expect(flood()).toBe(0);
    guest.dispose();
  });

  it("does not reuse a root that was zapped", () => {
    const { guest, roots } = withRoots(mode, 2);
    switchTo(guest, roots[1]!);
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    guest.vcpu.enterGuest();
    expect(guest.vcpu.state.rootMmu.roots.pages()).toHaveLength(1);
    switchTo(guest, roots[0]!);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("roots that stand above the guest's tables", () => {
  it.each([3, 4, 5] as const)(
    "go with their last reference and do not count against the limit (level %i)",
    (minimumRootLevel) => {
      const guest = new Guest({ minimumRootLevel });
      guest.mode = "pae";
      const roots = Array.from({ length: 8 }, () => guest.table());
      for (const root of roots) guest.map(root, GVA, 0x20_0000n);
      guest.start("pae", roots[0]!);
      const above = () => guest.vm.pages().filter((page) => (page.role & 0xc0000) !== 0 || (page.low & 2) !== 0);
      for (const root of roots.slice(1)) switchTo(guest, root);
      // Four roots, each a page per level down to 3.
      expect(above()).toHaveLength(4 * (minimumRootLevel - 2));
      expect(guest.vm.counter("USED")).toBe(guest.vm.pages().length - above().length);
      guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
      guest.vcpu.enterGuest();
      expect(above()).toHaveLength(minimumRootLevel - 2);
      expect(guest.access(GVA, Access.Read)).toBe("ok");
      expect(guest.vm.audit()).toEqual([]);
      guest.dispose();
    },
  );
});

describe("direct roots", () => {
  /** Share of CR3 writes that found a cached root, in a guest whose root does not depend on CR3. */
  function hitRate(staleDirectRoleBits: number): number {
    const guest = new Guest({ staleDirectRoleBits });
    guest.start("nopg", 0n);
    for (let i = 1; i <= 50; i++) switchTo(guest, BigInt(i) << 12n);
    const { hits, misses } = guest.vcpu.state.rootMmu.roots;
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
    return hits / (hits + misses);
  }

  it("are found whatever CR3 holds", () => {
    expect(hitRate(0)).toBe(1);
  });

  it("are never found when the wanted role keeps a bit that stored pages drop, as cr4_pae once was", () => {
    expect(hitRate(1 << 4)).toBe(0);
  });
});

describe("PCIDs", () => {
  const PCIDE = 0x20000n;

  it("keep a root without synchronising it when CR3 is written with bit 63", () => {
    const { guest, roots } = withRoots("4level", 2);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 | PCIDE);
    guest.vcpu.enterGuest();
    const leaf = guest.map(roots[0]!, GVA, 0x20_0000n);
    guest.map(roots[0]!, 0x10_0000n + (leaf & 0xf_f000n), leaf & ~0xfffn);
    guest.access(GVA, Access.Write);
    guest.write(0x10_0000n + (leaf & 0xf_ffffn), leaf, 0x20_7067n);
    switchTo(guest, roots[1]! | 1n);
    switchTo(guest, roots[0]! | (1n << 63n));
    const stale = guest.hardware(GVA, Access.Read);
    expect(stale.ok && guest.gfnOf(stale.pa)).toBe(0x200n);
    switchTo(guest, roots[0]!);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const fresh = guest.hardware(GVA, Access.Read);
    expect(fresh.ok && guest.gfnOf(fresh.pa)).toBe(0x207n);
    guest.dispose();
  });

  it("INVPCID of an address reaches every cached root of the PCID", () => {
    const { guest, roots } = withRoots("4level", 4);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 | PCIDE);
    const at = (i: number) => roots[i]! | (1n << 63n) | BigInt(i);
    const leaf = guest.map(roots[0]!, GVA, 0x20_0000n);
    guest.map(roots[0]!, 0x10_0000n + (leaf & 0xf_f000n), leaf & ~0xfffn);
    switchTo(guest, at(0));
    guest.access(GVA, Access.Write);
    expect(guest.write(0x10_0000n + (leaf & 0xf_ffffn), leaf, 0x20_7067n)).toBe("ok");
    // The oldest of three previous roots.
    for (const i of [1, 2, 3]) switchTo(guest, at(i));
    expect(guest.vcpu.state.rootMmu.roots.previous(2).pgd).toBe(roots[0]);
    guest.vcpu.invpcid(0, 0, GVA);
    switchTo(guest, at(0));
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok ? guest.gfnOf(found.pa) : "gone").not.toBe(0x200n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("INVPCID of one PCID frees that PCID's previous roots only", () => {
    const { guest, roots } = withRoots("4level", 3);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 | PCIDE);
    guest.vcpu.enterGuest();
    switchTo(guest, roots[1]! | 1n);
    switchTo(guest, roots[2]! | 2n);
    guest.vcpu.invpcid(1, 1, 0n);
    const kept = [0, 1, 2].map((i) => guest.vcpu.state.rootMmu.roots.previous(i)).filter((root) => root.page !== 0);
    expect(kept.map((root) => root.pgd)).toEqual([roots[0]]);
    guest.dispose();
  });
});

it.each(["32", "pae", "4level"] as const)(
  "the remembered MMIO access is forgotten with its address, also while there is no root (%s)",
  (mode) => {
    const { guest, roots } = withRoots(mode, 2);
    guest.map(roots[0]!, 0x80_0000n, MMIO_GPA);
    expect(guest.access(0x80_0000n, Access.Write)).toBe("mmio");
    guest.vcpu.invlpg(0x90_0000n);
    expect(guest.vcpu.state.mmioInfo.gva).toBe(0x80_0000n);
    guest.vcpu.invlpg(0x80_0123n);
    expect(guest.vcpu.state.mmioInfo.gva).toBe(0n);
    expect(guest.access(0x80_0000n, Access.Write)).toBe("mmio");
    guest.vcpu.writeCr3(roots[1]!);
    expect(guest.vcpu.state.rootMmu.roots.currentPage).toBe(0);
    guest.vcpu.invlpg(0x90_0000n);
    expect(guest.vcpu.state.mmioInfo.gva).toBe(0x80_0000n);
    guest.vcpu.invlpg(0x80_0123n);
    expect(guest.vcpu.state.mmioInfo.gva).toBe(0n);
    guest.dispose();
  },
);

describe("the remembered MMIO access", () => {
  const PCIDE = 1n << 17n;
  const NO_FLUSH = 1n << 63n;

  it.each(["4level", "5level"] as const)(
    "is forgotten with a switch to a cached root that flushes nothing (%s)",
    (mode) => {
      const guest = new Guest();
      guest.mode = mode;
      const [first, second] = [guest.table(), guest.table()];
      guest.map(first, GVA, MMIO_GPA);
      // The same address is a table in the second: a write to it is emulated, and is no access to a device.
      guest.map(second, GVA, second);
      guest.start(mode, first, { cr4: PCIDE });
      const run = (root: bigint, pcid: bigint) => {
        guest.vcpu.writeCr3(root | pcid | NO_FLUSH);
        guest.vcpu.enterGuest();
      };
      run(first, 1n);
      expect(guest.access(GVA, Access.Write)).toBe("mmio");
      run(second, 2n);
      expect(guest.access(GVA, Access.Write)).toBe("emulate");
      run(first, 1n);
      expect(guest.access(GVA, Access.Write)).toBe("mmio");
      expect(guest.vcpu.state.mmioInfo.gva).toBe(GVA & ~0xfffn);
      const { hits } = guest.vcpu.state.rootMmu.roots;
      run(second, 2n);
      expect(guest.vcpu.state.rootMmu.roots.hits - hits).toBe(1);
      expect(guest.vcpu.state.mmioInfo.gva).toBe(0n);
      expect(guest.access(GVA, Access.Write)).toBe("emulate");
      guest.dispose();
    },
  );
});

describe("a root that was zapped while it was kept", () => {
  it.each<[string, (guest: Guest) => void]>([
    ["INVPCID of its PCID", (guest) => guest.vcpu.invpcid(1, 1, 0n)],
    ["the next entry to the guest", (guest) => void guest.vcpu.enterGuest()],
    ["registers from outside", (guest) => guest.vcpu.setRegisters({ ...guest.vcpu.registers, cr4: 0xa0n })],
  ])("is given back at once by what drops it: %s", (_what, act) => {
    const NO_FLUSH = 1n << 63n;
    const guest = new Guest();
    guest.mode = "4level";
    const roots = [guest.table(), guest.table()] as const;
    for (const root of roots) guest.map(root, GVA, 0x20_0000n);
    guest.start("4level", roots[0] | 1n, { cr4: 0x2_0000n });
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    guest.vcpu.writeCr3(roots[1] | 2n | NO_FLUSH);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    // A slot goes, and with it every root; those in use wait.
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    expect(guest.vm.audit()).toEqual([]);
    act(guest);
    expect(guest.vm.audit()).toEqual([]);
    const kept = guest.vcpu.state.rootMmu.roots.pages();
    expect(guest.vm.state.pages.named).toBe(guest.vm.allPages().length);
    expect(guest.vm.state.pages.named).toBeLessThanOrEqual(kept.length + guest.vm.pages().length);
    guest.dispose();
  });
});

describe("under PCIDs", () => {
  const NO_FLUSH = 1n << 63n;
  const PCIDE = 0x2_0000n;

  it.each([0, 1, 2])("INVLPG reaches previous root %i of the current PCID", (place) => {
    const { guest, roots } = withRoots("4level", 4);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 | PCIDE);
    const leaf = guest.map(roots[0]!, GVA, 0x20_0000n);
    guest.map(roots[0]!, 0x10_0000n, leaf & ~0xfffn);
    switchTo(guest, roots[0]! | 1n | NO_FLUSH);
    guest.access(GVA, Access.Write);
    expect(guest.write(0x10_0000n + (leaf & 0xfffn), leaf, 0x20_7067n)).toBe("ok");
    for (const root of roots.slice(1, 2 + place)) switchTo(guest, root | 1n | NO_FLUSH);
    expect(guest.vcpu.state.rootMmu.roots.previous(place).pgd).toBe(roots[0]! | 1n);
    guest.vcpu.invlpg(GVA);
    switchTo(guest, roots[0]! | 1n | NO_FLUSH);
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok ? guest.gfnOf(found.pa) : 0x207n).toBe(0x207n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("INVPCID of the current PCID frees its previous roots, and keeps those of others", () => {
    const { guest, roots } = withRoots("4level", 4);
    guest.vcpu.writeCr4(guest.vcpu.registers.cr4 | PCIDE);
    guest.vcpu.enterGuest();
    for (const [i, pcid] of [1n, 2n, 1n].entries()) switchTo(guest, roots[i + 1]! | pcid | NO_FLUSH);
    guest.vcpu.invpcid(1, 1, 0n);
    const kept = [0, 1, 2].map((i) => guest.vcpu.state.rootMmu.roots.previous(i)).filter((root) => root.page !== 0);
    expect(kept.map((root) => root.pgd)).toEqual([roots[2]! | 2n, roots[0]]);
    guest.dispose();
  });
});

it("every vCPU lets go of roots that were zapped, not only the one that ran last", () => {
  const { guest, roots } = withRoots("4level", 1);
  const others = [0, 1].map(() => guest.vm.createVcpu(guest.vcpu.registers));
  const vcpus = [guest.vcpu, ...others];
  for (const vcpu of vcpus) expect(guest.access(GVA, Access.Read, vcpu)).toBe("ok");
  const old = guest.vcpu.state.rootMmu.roots.currentPage;
  guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
  for (const vcpu of vcpus) {
    vcpu.enterGuest();
    const page = guest.vm.page(vcpu.state.rootMmu.roots.currentPage);
    expect([page.gfn, guest.vm.state.pages.isObsolete(page.pointer)]).toEqual([roots[0]! >> 12n, false]);
    expect(guest.access(GVA, Access.Read, vcpu)).toBe("ok");
  }
  expect(old).not.toBe(0);
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});

it("a cached PAE root that lost a table while it was not current has it again before the guest runs", () => {
  const { guest, roots } = withRoots("pae", 2);
  const directory = guest.read(roots[0]!) >> 12n;
  expect(guest.access(GVA, Access.Read)).toBe("ok");
  switchTo(guest, roots[1]!);
  expect(guest.vm.unprotectGfn(directory)).toBe(true);
  switchTo(guest, roots[0]!);
  const { pages } = guest.vm.state.core;
  const child = guest.vm.state.pages.child(guest.vcpu.state.rootMmu.roots.currentPage, 0);
  expect(child !== 0 && pages.header(child).gfn).toBe(directory);
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});
