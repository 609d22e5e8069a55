/** The TDP MMU: faults, zaps, roots, splitting, the dirty log. */
import { describe, expect, it } from "vitest";
import { roleLevel } from "../../src/role/index.js";
import { FORMATS, LARGE_GPA, SMALL_HVA, TdpGuest } from "./tdp-guest.js";

const GPA = 0x12_3000n;
const W = 2n;
const PS = 0x80n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** Everything that a change of the guest's memory map may leave wrong. */
function expectSound(guest: TdpGuest): void {
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
}

describe.each(FORMATS)("the TDP MMU (%s)", (format) => {
  it("maps a page at its first access, with a table for each level", () => {
    const guest = new TdpGuest(format);
    expect(guest.access(GPA, "read")).toBe("ok");
    const leaf = guest.leaf(GPA)!;
    expect(leaf.level).toBe(1);
    expect((leaf.spte & ADDRESS) >> 12n).toBe(guest.frame(guest.hva(GPA)));
    expect(guest.vm.pages().map((page) => [page.tdp, roleLevel(page.role)])).toEqual([
      [true, 4],
      [true, 1],
      [true, 2],
      [true, 3],
    ]);
    expect(guest.vm.counter("USED")).toBe(0);
    expectSound(guest);
  });

  it("makes no call to the host for tables", () => {
    const guest = new TdpGuest(format, {});
    guest.access(GPA, "read");
    expect(guest.vm.stats.hostCalls).toBe(1);
    expectSound(guest);
  });

  it("maps a large page where the host has one and the slot holds it whole", () => {
    const guest = new TdpGuest(format);
    guest.access(LARGE_GPA + 0x5000n, "write");
    const leaf = guest.leaf(LARGE_GPA)!;
    expect([leaf.level, leaf.spte & PS]).toEqual([2, PS]);
    expect((leaf.spte & ADDRESS) >> 12n).toBe(guest.frame(guest.hva(LARGE_GPA)));
    expectSound(guest);
  });

  it("shares one root between vCPUs of one role, with a reference each and one of its own", () => {
    const guest = new TdpGuest(format);
    const second = guest.newVcpu();
    guest.vcpu.enterGuest();
    second.enterGuest();
    expect(second.state.rootMmu.roots.current.page).toBe(guest.vcpu.state.rootMmu.roots.current.page);
    expect(guest.vm.pages().map((page) => page.rootCount)).toEqual([3]);
    guest.access(GPA, "write");
    expect(guest.leaf(GPA, second)).toEqual(guest.leaf(GPA));
    expectSound(guest);
  });

  it("keeps an invalid root empty until its last vCPU has left it, and makes a new one", () => {
    const guest = new TdpGuest(format);
    const second = guest.newVcpu();
    second.enterGuest();
    guest.access(GPA, "write");
    const old = guest.vcpu.state.rootMmu.roots.current.page;
    guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 });
    const invalid = guest.vm.allPages().find((page) => page.pointer === old)!;
    expect([invalid.entries.size, invalid.rootCount]).toEqual([0, 2]);
    guest.vcpu.enterGuest();
    expect(guest.vcpu.state.rootMmu.roots.current.page).not.toBe(old);
    expect(guest.vm.pages().filter((page) => page.pointer === old).length).toBe(1);
    second.enterGuest();
    expect(guest.vm.pages().map((page) => [page.pointer, page.rootCount])).toEqual([
      [guest.vcpu.state.rootMmu.roots.current.page, 3],
    ]);
    expect(guest.access(GPA, "read")).toBe("ok");
    expectSound(guest);
  });

  it("emulates an access to an address without a slot, and recognises its MMIO entry", () => {
    const guest = new TdpGuest(format);
    expect(guest.access(0x9000_0000n, "write")).not.toBe("ok");
    const entry = guest.path(0x9000_0000n).at(-1)!;
    expect(entry.spte & guest.masks.mmio).toBe(guest.masks.mmioValue);
    expect(guest.access(0x9000_0000n, "read")).not.toBe("ok");
    expectSound(guest);
  });

  it("takes every leaf of an unmapped range away, and maps the host's new page", () => {
    const guest = new TdpGuest(format);
    for (const gpa of [GPA, GPA + 0x1000n, GPA + 0x2000n]) guest.access(gpa, "write");
    guest.vm.unmapRange(guest.hva(GPA), guest.hva(GPA) + 0x2000n);
    expect([0n, 0x1000n, 0x2000n].map((offset) => guest.leaf(GPA + offset) !== undefined)).toEqual([
      false,
      false,
      true,
    ]);
    const frame = guest.moveFrame(guest.hva(GPA));
    guest.access(GPA, "read");
    expect((guest.leaf(GPA)!.spte & ADDRESS) >> 12n).toBe(frame);
    expectSound(guest);
  });

  it("maps a changed page read-only at once, and drops one that may be written", () => {
    const guest = new TdpGuest(format);
    guest.access(GPA, "write");
    const hva = guest.hva(GPA);
    guest.vm.changePage(hva, { pfn: 0x55_5000n, writable: false, level: 1 });
    const { spte } = guest.leaf(GPA)!;
    expect([(spte & ADDRESS) >> 12n, spte & W, spte & guest.masks.mmuWritable]).toEqual([0x55_5000n, 0n, 0n]);
    guest.vm.changePage(hva, { pfn: 0x55_6000n, writable: true, level: 1 });
    expect(guest.leaf(GPA)).toBeUndefined();
    expectSound(guest);
  });

  it("notices accesses since a page was aged", () => {
    const guest = new TdpGuest(format);
    guest.access(GPA, "write");
    const hva = guest.hva(GPA);
    const ages = () => [guest.vm.testAge(hva, hva + 0x1000n), guest.vm.age(hva, hva + 0x1000n)];
    expect(ages()).toEqual([true, true]);
    expect(ages()).toEqual([false, false]);
    expect(guest.access(GPA, "read")).toBe("ok");
    expect(ages()).toEqual([true, true]);
    expect(guest.access(GPA, "write")).toBe("ok");
    expectSound(guest);
  });

  it("splits large pages when logging begins, with their rights, and makes them large again when it ends", () => {
    const guest = new TdpGuest(format);
    guest.access(LARGE_GPA, "write");
    guest.access(LARGE_GPA + 0x20_0000n, "read");
    guest.vm.setSlot(guest.slot(1, true));
    const first = guest.leaf(LARGE_GPA + 0x7000n)!;
    expect(first.level).toBe(1);
    expect((first.spte & ADDRESS) >> 12n).toBe(guest.frame(guest.hva(LARGE_GPA + 0x7000n)));
    expect((first.spte & W) !== 0n).toBe(format === "ept with PML");
    expect(guest.access(LARGE_GPA + 0x7000n, "write")).toBe("ok");
    expect(guest.vm.getDirtyLog(1)).toEqual([7]);
    guest.vm.setSlot(guest.slot(1, false));
    expect(guest.leaf(LARGE_GPA)).toBeUndefined();
    guest.access(LARGE_GPA, "write");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    expectSound(guest);
  });

  it("splits large pages that are cleared first in an initially-set log", () => {
    const guest = new TdpGuest(format, { manualDirtyLog: 3 });
    guest.access(LARGE_GPA, "write");
    guest.vm.setSlot(guest.slot(1, true));
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    guest.vm.clearDirtyLog(1, 64, 64, [70, 71]);
    expect(guest.leaf(LARGE_GPA)!.level).toBe(1);
    expect(guest.access(LARGE_GPA + (70n << 12n), "write")).toBe("ok");
    const log = guest.vm.getDirtyLog(1);
    expect([log.includes(70), log.includes(71)]).toEqual([true, false]);
    expectSound(guest);
  });

  it("takes W or D from pages whose log is cleared, and from no other", () => {
    const guest = new TdpGuest(format);
    guest.vm.setSlot(guest.slot(0, true));
    guest.access(GPA, "write");
    guest.access(GPA + 0x1000n, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([0x123, 0x124]);
    const { spte } = guest.leaf(GPA)!;
    if (format === "ept with PML") expect([spte & W, spte & guest.masks.dirty]).toEqual([W, 0n]);
    else expect(spte & W).toBe(0n);
    expect(spte & guest.masks.mmuWritable).toBe(guest.masks.mmuWritable);
    expect(guest.vm.getDirtyLog(0)).toEqual([]);
    guest.access(GPA, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([0x123]);
    expectSound(guest);
  });

  it("finds the writes of a nested guest, which runs without a page-modification log", () => {
    const guest = new TdpGuest(format);
    guest.vm.setSlot(guest.slot(0, true));
    guest.toggleNested();
    guest.access(GPA, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([0x123]);
    expect(guest.leaf(GPA)!.spte & W).toBe(0n);
    guest.access(GPA, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([0x123]);
    guest.toggleNested();
    expect(guest.access(GPA, "read")).toBe("ok");
    expectSound(guest);
  });

  it("keeps system-management mode's root apart and zaps in both address spaces", () => {
    const guest = new TdpGuest(format);
    guest.vm.setSlot({ ...guest.slot(0), addressSpace: 1 });
    guest.access(GPA, "write");
    const normal = guest.vcpu.state.rootMmu.roots.current.page;
    guest.vcpu.enterSmm();
    guest.access(GPA, "write");
    expect(guest.vcpu.state.rootMmu.roots.current.page).not.toBe(normal);
    const leaves = () =>
      guest.vm.pages().filter((page) => roleLevel(page.role) === 1 && page.entries.has(0x123)).length;
    expect(leaves()).toBe(2);
    guest.vm.unmapRange(guest.hva(GPA), guest.hva(GPA) + 0x1000n);
    expect(leaves()).toBe(0);
    expectSound(guest);
  });

  it("leaves system-management mode's pages alone where only the others' memory changes", () => {
    const guest = new TdpGuest(format);
    const ram = guest.vm.createRam(0x1_0000);
    guest.vm.setSlot({ id: 0, addressSpace: 1, gpa: 0n, size: 0x1_0000, ram, hva: SMALL_HVA + 0x100_0000n });
    const smm = guest.newVcpu();
    smm.enterSmm();
    for (const vcpu of [guest.vcpu, smm]) expect(guest.access(0x3000n, "write", vcpu)).toBe("ok");
    const before = guest.leaf(0x3000n, smm)!.spte;
    guest.vm.unmapRange(SMALL_HVA + 0x3000n, SMALL_HVA + 0x4000n);
    expect(guest.leaf(0x3000n)).toBeUndefined();
    expect(guest.leaf(0x3000n, smm)!.spte).toBe(before);
    expect(guest.vm.age(SMALL_HVA + 0x3000n, SMALL_HVA + 0x4000n)).toBe(false);
    expect(guest.leaf(0x3000n, smm)!.spte).toBe(before);
    expectSound(guest);
  });

  it("leaves large pages without execution under the NX mitigation, and small ones where code runs", () => {
    const guest = new TdpGuest(format, { nxHugePages: true });
    guest.access(LARGE_GPA, "write");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    expect(guest.access(LARGE_GPA + 0x3000n, "exec")).toBe("ok");
    expect(guest.leaf(LARGE_GPA + 0x3000n)!.level).toBe(1);
    expect(guest.vm.pages().filter((page) => page.noHugePage).length).toBe(1);
    // A data access must not make the page large again while its table stands.
    expect(guest.access(LARGE_GPA + 0x4000n, "write")).toBe("ok");
    expect(guest.leaf(LARGE_GPA + 0x4000n)!.level).toBe(1);
    expect(guest.vm.recoverHugePages(8)).toBe(1);
    expect(guest.leaf(LARGE_GPA + 0x3000n)).toBeUndefined();
    guest.access(LARGE_GPA + 0x4000n, "write");
    expect(guest.leaf(LARGE_GPA + 0x4000n)!.level).toBe(2);
    expectSound(guest);
  });
});

describe("the removed-SPTE marker", () => {
  /** New values of entries below `level` in the events of `act`. */
  function changes(guest: TdpGuest, act: () => void) {
    const found: { level: number; old: bigint; next: bigint }[] = [];
    guest.vm.events.sink = (event) => {
      if (event.ev !== "kvm_tdp_mmu_spte_changed") return;
      found.push({ level: event.level, old: event.old_spte, next: event.new_spte });
    };
    act();
    return found;
  }

  it("stands in all entries of a table that is cut off while faults go on", () => {
    const guest = new TdpGuest("npt", { eventCapacity: 16384 });
    guest.access(GPA, "write");
    const found = changes(guest, () => guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 }));
    const bottom = found.filter(({ level }) => level === 1);
    expect(bottom.length).toBe(512);
    expect(new Set(bottom.map(({ next }) => next))).toEqual(new Set([0x5a0n]));
    expect(bottom.filter(({ old }) => old !== 0n).length).toBe(1);
    guest.dispose();
  });

  it("stands only in present entries where nobody else uses the table", () => {
    const guest = new TdpGuest("npt", { eventCapacity: 16384, nxHugePages: true });
    guest.access(LARGE_GPA + 0x3000n, "exec");
    const found = changes(guest, () => guest.vm.recoverHugePages(1));
    expect(found.map(({ level, next }) => [level, next])).toEqual([
      [2, 0n],
      [1, 0x5a0n],
    ]);
    guest.dispose();
  });
});

describe("memory for tables", () => {
  it("comes back when roots are dropped", () => {
    const guest = new TdpGuest("npt");
    const used = () => guest.vm.state.tdpMmu!.pages().length;
    guest.access(GPA, "read");
    guest.access(LARGE_GPA, "read");
    expect(used()).toBe(5);
    guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 });
    guest.vcpu.enterGuest();
    expect(used()).toBe(1);
    guest.dispose();
  });
});

describe.each(FORMATS)("a root that a vCPU still has (%s)", (format) => {
  it("stays its own however often all roots are zapped before it is entered again", () => {
    const guest = new TdpGuest(format);
    const other = guest.newVcpu();
    for (const vcpu of [guest.vcpu, other]) expect(guest.access(GPA, "write", vcpu)).toBe("ok");
    const slot = { id: 7, gpa: 0x9000_0000n, size: 0x1000, ram: guest.vm.createRam(0x1000) };
    for (let i = 0; i < 3; i++) {
      guest.vm.setSlot(slot);
      guest.vm.setSlot({ ...slot, size: 0 });
      expect(guest.vm.audit()).toEqual([]);
    }
    // One goes on with a new root; the old one is the other's alone.
    expect(guest.access(GPA, "write")).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    expect(guest.access(GPA, "write", other)).toBe("ok");
    expect(guest.vm.counter("BROKEN")).toBe(0);
    expectSound(guest);
  });
});
