/** Huge pages of nested guests are split before their writes are logged (kvm_shadow_mmu_try_split_huge_pages). */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { splitNestedHugePages } from "../../src/mmu/changes/split-huge.js";
import type { MmuTraceEvent, VirtualMachineConfig } from "../../src/mmu/index.js";
import { roleIsDirect, roleIsGuestMode, roleLevel } from "../../src/role/index.js";
import { failAfter } from "./fail-after.js";
import { FULL, HIGH_HVA, HIGH_PAGES, HIGH_SLOT } from "./guest.js";
import { Host } from "./machines/host.js";
import { NestedNpt } from "./nested-guest.js";

const L2 = 0x4000_0000n;
const OTHER_L2 = 0x8020_0000n;
const READ = Access.Read | Access.User;
const WRITE = Access.Write | Access.User;

/** L2 has a large page of L1's, which the host maps as one, at two addresses. */
function started(config: Partial<VirtualMachineConfig> = {}) {
  const guest = new NestedNpt(4, "4level", { host: new Host(), tdpMmu: true, eventCapacity: 4096, ...config });
  guest.map(guest.root, L2, HIGH_SLOT, FULL, 2);
  guest.map(guest.root, OTHER_L2, HIGH_SLOT, FULL, 2);
  guest.enter();
  guest.touch(L2 + 0x5000n, WRITE);
  const events: MmuTraceEvent[] = [];
  guest.vm.events.sink = (event) => events.push(event);
  return { guest, events };
}

const splits = (events: MmuTraceEvent[]) => events.filter(({ ev }) => ev === "kvm_mmu_split_huge_page");

const log = (guest: NestedNpt, logDirty = true) =>
  guest.vm.setSlot({ id: 1, gpa: HIGH_SLOT, ram: guest.high, hva: HIGH_HVA, size: HIGH_PAGES * 4096, logDirty });

/** Large leaves of nested pages, and the direct pages that stand below them. */
const shape = (guest: NestedNpt) => {
  const nested = guest.vm.pages().filter((page) => roleIsGuestMode(page.role));
  const entries = (table: number) => Array.from({ length: 512 }, (_, i) => guest.vm.state.core.pages.entry(table, i));
  const large = nested.flatMap((page) => entries(page.table).filter((spte) => spte & 0x800n && spte & 0x80n));
  const direct = nested.filter((page) => roleIsDirect(page.role) && roleLevel(page.role) === 1);
  return { large, direct: direct.map((page) => entries(page.table)) };
};

describe("a huge page of a nested guest, when dirty logging begins", () => {
  it("becomes 512 small ones that map the same memory, write-protected", () => {
    const { guest, events } = started();
    expect(shape(guest).large.length).toBe(1);
    const before = guest.second(L2 + 0x1f_f000n, READ);
    log(guest);
    expect(splits(events)).toMatchObject([{ gfn: HIGH_SLOT >> 12n, level: 2, errno: 0 }]);
    const { large, direct } = shape(guest);
    expect(large).toEqual([]);
    expect(direct.length).toBe(1);
    expect(direct[0]!.every((spte) => spte & 0x800n && !(spte & 2n))).toBe(true);
    const after = guest.second(L2 + 0x1f_f000n, READ);
    expect(before.ok && after.ok && before.pa === after.pa).toBe(true);
    expect(guest.touch(L2 + 0x7000n, WRITE)).toBe((HIGH_SLOT >> 12n) + 7n);
    expect(guest.vm.getDirtyLog(1)).toEqual([7]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("shares the small pages with another address of the same memory and rights", () => {
    const { guest } = started();
    guest.touch(OTHER_L2, WRITE);
    expect(shape(guest).large.length).toBe(2);
    log(guest);
    expect(shape(guest)).toMatchObject({ large: [], direct: { length: 1 } });
    expect(guest.second(OTHER_L2 + 0x3000n, READ).ok && guest.second(L2 + 0x3000n, READ).ok).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("keeps apart the small pages of different aliases of the same memory", () => {
    const ALIAS = 1n << 41n;
    const { guest, events } = started({ aliases: { mask: ALIAS } });
    guest.map(guest.root, OTHER_L2, HIGH_SLOT | ALIAS, FULL, 2);
    guest.touch(OTHER_L2, WRITE);
    expect(shape(guest).large.length).toBe(2);
    log(guest);
    const tables = () => guest.vm.pages().filter(({ role }) => roleIsGuestMode(role) && roleIsDirect(role));
    expect(new Set(tables().map(({ alias }) => alias))).toEqual(new Set([0n, ALIAS >> 12n]));
    events.length = 0;
    for (const gpa of [L2, OTHER_L2]) expect(guest.touch(gpa + 0x7000n, WRITE)).toBe((HIGH_SLOT >> 12n) + 7n);
    // The faults find the tables that splitting made.
    expect(events.filter(({ ev }) => ev === "kvm_mmu_get_page")).toEqual([]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("of 1 GiB becomes small ones, level by level", () => {
    const size = 1 << 30;
    const hva = 0x7f80_0000_0000n;
    const frame = (at: bigint) => 0x40_0000n + ((at - hva) >> 12n);
    const hostMemory = {
      pin: (at: bigint) => ({
        pfn: at >= hva ? frame(at) : 0x10_0000n + ((at >> 12n) & 0xf_ffffn),
        writable: true,
        level: at >= hva ? 3 : 1,
      }),
      peek: () => undefined,
    };
    const guest = new NestedNpt(4, "4level", { tdpMmu: true, hostMemory });
    const slot = { id: 7, gpa: 4n * BigInt(size), size, ram: guest.ram, ramSize: 4096, hva };
    guest.vm.setSlot(slot);
    guest.map(guest.root, L2, slot.gpa, FULL, 3);
    guest.enter();
    guest.touch(L2 + 0x1234_5000n, WRITE);
    expect(shape(guest).large).toHaveLength(1);
    guest.vm.setSlot({ ...slot, logDirty: true });
    expect(shape(guest).large).toEqual([]);
    for (const offset of [0n, 0x1234_5000n, BigInt(size) - 4096n]) {
      const found = guest.second(L2 + offset, READ);
      expect(found.ok && found.pa >> 12n).toBe(frame(hva + offset));
      expect(guest.second(L2 + offset, WRITE).ok).toBe(false);
    }
    guest.dispose();
  });

  it("waits for the first cleared page where everything counts as dirty at first", () => {
    const { guest } = started({ manualDirtyLog: 3 });
    log(guest);
    expect(shape(guest).large.length).toBe(1);
    guest.vm.clearDirtyLog(1, 64, 64, [70]);
    expect(shape(guest).large.length).toBe(0);
    expect(guest.second(L2 + (70n << 12n), WRITE).ok).toBe(false);
    expect(guest.second(L2 + (71n << 12n), WRITE).ok).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("stays, write-protected, beside the classic direct MMU", () => {
    const { guest } = started({ tdpMmu: false });
    log(guest);
    const { large } = shape(guest);
    expect(large.map((spte) => spte & 2n)).toEqual([0n]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("stays where there is no memory for small ones, and is split at the first write", () => {
    const { guest } = started({ manualDirtyLog: 3 });
    log(guest);
    const injected = failAfter(guest, 0);
    // What the host's side needs is there already: all that is missing is for nested pages.
    expect(() =>
      splitNestedHugePages(
        guest.vm.state,
        guest.vm.state.slots.find(0, 1)!,
        HIGH_SLOT >> 12n,
        (HIGH_SLOT >> 12n) + 512n,
      ),
    ).not.toThrow();
    injected.undo();
    expect(injected.hit()).toBe(true);
    expect(shape(guest).large.length).toBe(1);
    guest.vm.clearDirtyLog(1, 0, 64, [7]);
    expect(guest.touch(L2 + 0x7000n, WRITE)).toBe((HIGH_SLOT >> 12n) + 7n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("stays where the page limit leaves no room, and is split at the first write", () => {
    const { guest, events } = started();
    guest.vm.state.core.vm.max = guest.vm.counter("USED") + 5;
    log(guest);
    expect(shape(guest).large.map((spte) => spte & 2n)).toEqual([0n]);
    expect(splits(events)).toMatchObject([{ gfn: HIGH_SLOT >> 12n, level: 2, errno: -28 }]);
    expect(guest.touch(L2 + 0x7000n, WRITE)).toBe((HIGH_SLOT >> 12n) + 7n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});
