/** Huge pages that the NX-huge-page mitigation forbade return where no code runs any more (kvm_recover_nx_lpages). */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { roleIsGuestMode, roleLevel } from "../../src/role/index.js";
import { FULL, Guest, HIGH_SLOT } from "./guest.js";
import { Host } from "./machines/host.js";
import { NestedNpt } from "./nested-guest.js";

const GVA = 0x4000_0000n;
const FETCH = Access.Fetch | Access.User;
const READ = Access.Read | Access.User;
const config = () => ({ nxHugePages: true, host: new Host() });

type Run = (gpa: bigint, access: number) => unknown;

function shadow(): { guest: Guest; run: Run } {
  const guest = new Guest(config());
  const root = guest.table();
  for (const at of [0n, 0x20_0000n]) guest.map(root, GVA + at, HIGH_SLOT + at, FULL, 2);
  guest.start("4level", root);
  return { guest, run: (gva, access) => guest.access(gva, access) };
}

function direct(tdpMmu: boolean): { guest: Guest; run: Run } {
  const guest = new NestedNpt(4, "4level", { ...config(), tdpMmu });
  return { guest, run: (gpa, access) => guest.touch(gpa, access) };
}

function nested(tdpMmu: boolean): { guest: Guest; run: Run } {
  const guest = new NestedNpt(4, "4level", { ...config(), tdpMmu });
  for (const at of [0n, 0x20_0000n]) guest.map(guest.root, GVA + at, HIGH_SLOT + at, FULL, 2);
  guest.enter();
  return { guest, run: (gpa, access) => guest.touch(gpa, access) };
}

const KINDS: readonly (readonly [string, () => { guest: Guest; run: Run }])[] = [
  ["under shadow paging", shadow],
  ["in the classic direct MMU", () => direct(false)],
  ["in the TDP MMU", () => direct(true)],
  ["for a nested guest beside the classic direct MMU", () => nested(false)],
  ["for a nested guest beside the TDP MMU", () => nested(true)],
];

/** Level-1 tables that stand where a huge page was forbidden, by what they map. */
const forbidden = (guest: Guest) =>
  guest.vm.allPages().flatMap((page) => (page.noHugePage && roleLevel(page.role) === 1 ? [page.gfn] : []));
const GFN = HIGH_SLOT >> 12n;

describe.each(KINDS)("recovery of forbidden huge pages %s", (_name, make) => {
  it("gives up the one that was forbidden first, and the next read makes the page large again", () => {
    const { guest, run } = make();
    // Read first: huge pages that are not executable.
    for (const at of [0x20_0000n, 0n]) run(GVA + at, READ);
    expect(forbidden(guest)).toEqual([]);
    run(GVA + 0x20_0000n, FETCH);
    run(GVA, FETCH);
    expect(forbidden(guest).sort()).toEqual([GFN, GFN + 512n]);
    expect(guest.vm.recoverHugePages(1)).toBe(1);
    expect(forbidden(guest)).toEqual([GFN]);
    expect(guest.vm.audit()).toEqual([]);
    run(GVA + 0x20_0000n, READ);
    expect(forbidden(guest)).toEqual([GFN]);
    const large = guest.vm
      .allPages()
      .filter((page) => roleLevel(page.role) === 2)
      .flatMap((page) => Array.from({ length: 512 }, (_, i) => guest.vm.state.core.pages.entry(page.table, i)))
      .filter((spte) => spte & 0x800n && spte & 0x80n);
    expect(large.length).toBe(1);
    expect(guest.vm.recoverHugePages(5)).toBe(1);
    expect(guest.vm.recoverHugePages(5)).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("recovery of forbidden huge pages of both kinds", () => {
  const isNested = (guest: Guest) =>
    guest.vm.allPages().flatMap((page) => (page.noHugePage ? [roleIsGuestMode(page.role)] : []));

  it.each([true, false])("goes by the order in which they were forbidden (L1's first: %s)", (l1First) => {
    const { guest, run } = nested(true) as { guest: NestedNpt; run: Run };
    const l2 = () => run(GVA, FETCH);
    const l1 = () => {
      guest.exit();
      run(HIGH_SLOT + 0x20_0000n, FETCH);
      guest.enter();
    };
    for (const one of l1First ? [l1, l2] : [l2, l1]) one();
    expect(isNested(guest).length).toBe(2);
    expect(guest.vm.recoverHugePages(1)).toBe(1);
    expect(isNested(guest)).toEqual([l1First]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a page in the place of one that was given up", () => {
  it("stands where nothing is forbidden, whatever stood in its memory before", () => {
    const guest = new NestedNpt(4, "4level", config());
    guest.touch(HIGH_SLOT, READ);
    guest.touch(HIGH_SLOT, FETCH);
    expect(forbidden(guest)).toEqual([GFN]);
    guest.vm.state.core.zapAllFast();
    guest.vm.state.settle();
    // Small pages of the host: tables that a huge page could not replace.
    for (const gpa of [0n, 0x20_0000n]) guest.touch(gpa, READ);
    expect(guest.vm.allPages().filter((page) => page.noHugePage)).toEqual([]);
    expect(guest.vm.recoverHugePages(4)).toBe(0);
    guest.dispose();
  });
});
