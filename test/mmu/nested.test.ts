/** Nested guests: shadowed NPT, PDPTEs of L1, switches, walks of L2's tables. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import type { SecondStage } from "../../src/mmu/index.js";
import {
  roleGuestLevel,
  roleIsDirect,
  roleIsGuestMode,
  roleIsPaeRoot,
  roleIsPromoted,
  roleLevel,
} from "../../src/role/index.js";
import { eptMasks } from "../../src/spte/index.js";
import { bytesOf, D, FULL, type GuestConfig, type Mode, P, RAM_HVA, RAM_PAGES, RW, registersOf, US } from "./guest.js";
import { EPT, type Level, NestedEpt, NestedNpt, UNPAGED } from "./nested-guest.js";

const L2 = 0x40_3000n;
const PAGE = 0x20_0000n;
const GFN = PAGE >> 12n;
/** SPTEs of the nested guest's pages from `gpa` on. */
function leavesOf(guest: NestedEpt, gpa: bigint): bigint[] {
  const table = guest.vm.pages().find(({ role }) => roleLevel(role) === 1 && roleIsGuestMode(role))!.table;
  return [0n, 1n].map((i) => guest.vm.state.core.pages.entry(table, Number(((gpa >> 12n) + i) & 511n)));
}

const UNSYNC = (guest: NestedNpt | NestedEpt) => guest.vm.pages().filter((page) => page.unsync).length;

/** Host levels (hEFER.LMA=0: 3; hEFER.LMA=1: 4; with hCR4.LA57: 5) and the L1 that runs there. */
const ROWS: readonly (readonly [string, Level, Mode, boolean])[] = [
  ["2->3: 32-bit L1 with PSE on a 32-bit host", 3, "32", true],
  ["2->3: 32-bit L1 without PSE on a 32-bit host", 3, "32", false],
  ["3: PAE L1 on a 32-bit host", 3, "pae", false],
  ["2->4: 32-bit L1 with PSE, hEFER.LMA=1, hCR4.LA57=0", 4, "32", true],
  ["2->4: 32-bit L1 without PSE, hEFER.LMA=1, hCR4.LA57=0", 4, "32", false],
  ["3->4: PAE L1, hEFER.LMA=1, hCR4.LA57=0", 4, "pae", false],
  ["4: 4-level L1, hEFER.LMA=1, hCR4.LA57=0", 4, "4level", false],
  ["2->5: 32-bit L1 with PSE, hEFER.LMA=1, hCR4.LA57=1", 5, "32", true],
  ["2->5: 32-bit L1 without PSE, hEFER.LMA=1, hCR4.LA57=1", 5, "32", false],
  ["3->5: PAE L1, hEFER.LMA=1, hCR4.LA57=1", 5, "pae", false],
  ["4->5: 4-level L1 on a 5-level host", 5, "4level", false],
  ["5: 5-level L1 on a 5-level host", 5, "5level", false],
];

describe.each(ROWS)("shadow NPT, %s", (_name, level, mode, pse) => {
  const guestLevel = { "32": 2, pae: 3, "4level": 4, "5level": 5, nopg: 0 }[mode];
  const started = () => {
    const guest = new NestedNpt(level, mode, { pse });
    const leaf = guest.map(guest.root, L2, PAGE);
    return { guest, leaf };
  };

  it("gives L2 what L1's tables give it, and L1 the fault where they give nothing", () => {
    const { guest } = started();
    guest.map(guest.root, L2 + 0x1000n, PAGE + 0x1000n, FULL & ~RW);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    expect(guest.touch(L2, Access.Write | Access.User)).toBe(GFN);
    expect(guest.touch(L2 + 0x1000n, Access.Read | Access.User)).toBe(GFN + 1n);
    const denied = guest.touch(L2 + 0x1000n, Access.Write | Access.User);
    expect(denied).toMatchObject({ result: "inject", nested: true, address: L2 + 0x1000n, errorCode: 7 });
    const absent = guest.touch(L2 + 0x2000n, Access.Read | Access.User);
    expect(absent).toMatchObject({ result: "inject", nested: true, errorCode: 4 });
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("stacks promoted pages on L1's own root level, with its guest level and gfn", () => {
    const { guest } = started();
    guest.enter();
    guest.touch(L2, Access.Read | Access.User);
    const promoted = guest.vm.pages().filter((page) => roleIsPromoted(page.role));
    const levels = promoted.map((page) => roleLevel(page.role)).sort();
    expect(levels).toEqual(Array.from({ length: level - guestLevel }, (_, i) => guestLevel + 1 + i));
    for (const page of promoted) {
      expect(page.gfn).toBe(guest.root >> 12n);
      expect(roleGuestLevel(page.role)).toBe(guestLevel);
    }
    const roots = guest.vm.pages().filter((page) => roleIsPaeRoot(page.role));
    expect(roots.every((page) => level === 3 && page.hostAddress < 1n << 32n)).toBe(true);
    expect(roots.length > 0).toBe(level === 3);
    guest.dispose();
  });

  it("follows what L1 writes into its tables, at every level of them", () => {
    const { guest, leaf } = started();
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    guest.l1Write(leaf, (PAGE + 0x1000n) | FULL);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 1n);
    guest.exit();
    // The top-level entry goes: it is write-protected, so the write is emulated.
    const top = guest.entryAddress(guest.root, L2, guestLevel);
    expect(guest.l1Write(top, 0n)).toBe("emulated");
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toMatchObject({ result: "inject", nested: true });
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("switches between L1 and L2 on cached roots", () => {
    const { guest } = started();
    guest.enter();
    guest.exit();
    const { rootMmu, guestMmu } = guest.vcpu.state;
    const before = [rootMmu.roots.hits, guestMmu.roots.hits, rootMmu.roots.misses, guestMmu.roots.misses];
    for (let i = 0; i < 20; i++) {
      guest.enter();
      expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
      guest.exit();
    }
    const after = [rootMmu.roots.hits, guestMmu.roots.hits, rootMmu.roots.misses, guestMmu.roots.misses];
    expect(after.map((value, i) => value - before[i]!)).toEqual([20, 20, 0, 0]);
    guest.dispose();
  });

  it("gives back everything when a slot goes", () => {
    const { guest } = started();
    guest.enter();
    guest.touch(L2, Access.Write | Access.User);
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    guest.vcpu.enterGuest();
    expect(guest.touch(L2, Access.Write | Access.User)).toBe(GFN);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("PDPTEs of a PAE L1's NPT", () => {
  const other = (guest: NestedNpt) => {
    const directory = guest.table();
    const table = guest.table();
    guest.poke(guest.entryAddress(directory, L2, 2), table | FULL);
    guest.poke(guest.entryAddress(table, L2, 1), (PAGE + 0x5000n) | FULL);
    return directory;
  };

  it.each([3, 4, 5] as const)("are live: a write shows at once, without a new nCR3 (%i levels)", (level) => {
    const guest = new NestedNpt(level, "pae");
    guest.map(guest.root, L2, PAGE);
    const directory = other(guest);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    expect(guest.l1Write(guest.root, directory | P)).toBe("emulated");
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 5n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each([3, 4, 5] as const)("come from nCR3 bits 11:5: tables that share a page stay apart (%i levels)", (level) => {
    const guest = new NestedNpt(level, "pae", { ncr3: 0xfe0n });
    guest.map(guest.root, L2, PAGE);
    const second = (guest.root & ~0xfffn) | 0x20n;
    guest.map(second, L2, PAGE + 0x6000n);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    if (guest.stage.kind !== "npt") throw new RangeError("not NPT");
    guest.enter(undefined, { ...guest.stage, ncr3: second });
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 6n);
    // A write to one of the tables reaches its own SPTE, and no other's.
    guest.vcpu.emulatedWrite(guest.root, new Uint8Array(8));
    expect(guest.second(L2, Access.Read | Access.User).ok).toBe(true);
    guest.vcpu.emulatedWrite(second, new Uint8Array(8));
    expect(guest.second(L2, Access.Read | Access.User).ok).toBe(false);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each(["live", "loaded"] as const)("with reserved bits fault as such where they are live: %s", (nestedPdptes) => {
    const guest = new NestedNpt(4, "pae", { nestedPdptes });
    guest.map(guest.root, L2, PAGE);
    guest.poke(guest.root, guest.read(guest.root) | 2n);
    guest.enter();
    const found = guest.touch(L2, Access.Read | Access.User);
    // P | U | RSVD of L1's own walk; 6.1 does not look at the bits.
    const refused = { result: "inject", errorCode: 0xd, nested: true };
    if (nestedPdptes === "live") expect(found).toMatchObject(refused);
    else expect(found).toBe(GFN);
    // The tables behind another one that another root knows are not to be had through it, either.
    const second = guest.table();
    guest.poke(second, guest.read(guest.root) & ~2n);
    guest.exit();
    if (guest.stage.kind !== "npt") throw new RangeError("not NPT");
    guest.enter(undefined, { ...guest.stage, ncr3: second });
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    guest.enter();
    expect(guest.second(L2, Access.Read | Access.User).ok).toBe(nestedPdptes === "loaded");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("are read with the root, as Linux 6.1 does, where the VM says so", () => {
    const guest = new NestedNpt(4, "pae", { nestedPdptes: "loaded" });
    guest.map(guest.root, L2, PAGE);
    const directory = other(guest);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    expect(guest.l1Write(guest.root, directory | P)).toBe("written");
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 5n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("are read anew where the root goes while L2 runs, and another takes its place", () => {
    const guest = new NestedNpt(4, "pae", { nestedPdptes: "loaded" });
    guest.map(guest.root, L2, PAGE);
    const directory = other(guest);
    // Another root of L1's leads to the same directory, and another vCPU uses it.
    const second = guest.table();
    guest.poke(second, guest.read(guest.root));
    const [first, another] = [guest.vcpu, guest.vm.createVcpu(guest.vcpu.registers)];
    if (guest.stage.kind !== "npt") throw new RangeError("not NPT");
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.vcpu = another;
    guest.enter(undefined, { ...guest.stage, ncr3: second });
    guest.poke(guest.root, directory | P);
    // Every root goes with a slot; the old directory is in use again before the first vCPU loads its root.
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 0 });
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.vcpu = first;
    first.enterGuest();
    const found = guest.second(L2, Access.Read | Access.User);
    expect(found.ok ? guest.gfnOf(found.pa) : GFN + 5n).toBe(GFN + 5n);
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 5n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("switching between L1 and L2", () => {
  /** Share of the switches that found L1's direct root, in a guest that L2 exits from again and again. */
  function hitRate(staleDirectRoleBits: number): number {
    const guest = new NestedNpt(4, "4level", { staleDirectRoleBits });
    guest.map(guest.root, L2, PAGE);
    for (let i = 0; i < 50; i++) {
      guest.enter();
      guest.exit();
    }
    const { hits, misses } = guest.vcpu.state.rootMmu.roots;
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
    return hits / (hits + misses);
  }

  it("finds L1's direct root every time", () => {
    expect(hitRate(0)).toBe(1);
  });

  it("never finds it where the wanted role keeps bit 4 and stored pages drop it, as cr4_pae once did", () => {
    expect(hitRate(1 << 4)).toBe(0);
  });
});

describe("walks of L2's own tables", () => {
  const GVA = 0x1234_5000n;
  const LINEAR = registersOf("4level", 0n);
  /** L2 in long mode; L1's NPT maps every frame of the first 2 MiB, and PAGE, to itself. */
  const started = (flags = FULL) => {
    const guest = new NestedNpt(4, "4level");
    for (let gpa = 0x10_0000n; gpa < 0x20_0000n; gpa += 0x1000n) guest.map(guest.root, gpa, gpa);
    guest.map(guest.root, PAGE, PAGE, flags);
    const root = guest.table();
    const leaf = guest.map(root, GVA, PAGE, P | US | 0x20n);
    guest.enter({ ...LINEAR, cr3: root });
    return { guest, leaf };
  };

  it("go through L1's second stage, and set accessed bits in both", () => {
    const { guest, leaf } = started();
    guest.poke(leaf, guest.read(leaf) & ~0x20n);
    expect(guest.vcpu.walk(GVA + 8n, 4)).toEqual({ ok: true, gpa: PAGE + 8n });
    expect(guest.read(leaf) & 0x20n).toBe(0x20n);
    guest.dispose();
  });

  it("ask for every table as a user's write, as the processor may set its accessed bit", () => {
    const { guest, leaf } = started();
    guest.exit();
    // L1 lets L2 read the level-1 table only.
    guest.l1Write(guest.leafOf(guest.root, leaf), (leaf & ~0xfffn) | (FULL & ~RW));
    guest.enter({ ...LINEAR, cr3: guest.vcpu.state.nestedMmu.pgd });
    expect(guest.vcpu.walk(GVA, 0)).toMatchObject({ ok: false, nested: true, errorCode: 7, address: leaf & ~0xfffn });
    guest.dispose();
  });

  it("log the page of L1's where they set an accessed bit, whatever L2's address of it", () => {
    const guest = new NestedNpt(4, "4level");
    for (let gpa = 0x10_0000n; gpa < 0x18_0000n; gpa += 0x1000n) guest.map(guest.root, gpa + 0x100_0000n, gpa);
    guest.map(guest.root, PAGE, PAGE);
    const tables = [0, 1, 2, 3].map(() => guest.table());
    tables.forEach((table, i) => {
      const next = i === 3 ? PAGE : tables[i + 1]! + 0x100_0000n;
      guest.poke(guest.entryAddress(table, GVA, 4 - i), next | P | US | (i === 3 ? 0n : 0x20n));
    });
    guest.enter({ ...LINEAR, cr3: tables[0]! + 0x100_0000n });
    guest.vm.setSlot({ id: 0, gpa: 0n, size: RAM_PAGES * 4096, ram: guest.ram, hva: RAM_HVA, logDirty: true });
    guest.vcpu.enterGuest();
    expect(guest.vcpu.walk(GVA, 4).ok).toBe(true);
    expect(guest.vm.getDirtyLog(0)).toContain(Number(tables[3]! >> 12n));
    guest.dispose();
  });

  it("report L2's own fault as L2's, and L1's at L2's guest-physical address as a user's access", () => {
    const { guest } = started(FULL & ~US);
    expect(guest.vcpu.walk(GVA + 0x1000n, 4)).toMatchObject({
      ok: false,
      errorCode: 4,
      address: GVA + 0x1000n,
      nested: false,
    });
    expect(guest.vcpu.walk(GVA, 2 | 4)).toMatchObject({ ok: false, errorCode: 7, address: GVA, nested: false });
    expect(guest.vcpu.walk(GVA + 8n, 0)).toMatchObject({ ok: false, errorCode: 5, address: PAGE, nested: true });
    guest.dispose();
  });

  it("follow CR0.WP that changed without an exit, once they come to the permission check", () => {
    const { guest } = started();
    const { nestedMmu } = guest.vcpu.state;
    guest.vcpu.setGuestRegisters({ cr0: LINEAR.cr0 & ~0x10000n });
    expect(guest.vcpu.walk(GVA + 0x1000n, 2).ok).toBe(false);
    expect(nestedMmu.writeProtect).toBe(true);
    expect(guest.vcpu.walk(GVA, 2)).toEqual({ ok: true, gpa: PAGE });
    expect(nestedMmu.writeProtect).toBe(false);
    guest.dispose();
  });
});

describe("roots that stand above L1's tables", () => {
  it.each([4, 5] as const)("leave the directories below them when they go (%i levels)", (level) => {
    const guest = new NestedNpt(level, "32");
    guest.map(guest.root, L2, PAGE);
    if (guest.stage.kind !== "npt") throw new RangeError("not NPT");
    guest.enter();
    guest.touch(L2, Access.Read | Access.User);
    guest.exit();
    const { hostCalls } = guest.vm.stats;
    const directories = () =>
      guest.vm.pages().filter((page) => page.gfn === guest.root >> 12n && roleLevel(page.role) === 2).length;
    expect(directories()).toBe(4);
    // Four other roots: the current one and three previous ones.
    for (let i = 0; i < 4; i++) {
      guest.enter(undefined, { ...guest.stage, ncr3: guest.table() });
      guest.exit();
    }
    expect(guest.vm.pages().filter((page) => page.gfn === guest.root >> 12n && roleIsPromoted(page.role))).toEqual([]);
    expect(directories()).toBe(4);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    expect(guest.vm.stats.hostCalls).toBe(hostCalls);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("shadow EPT", () => {
  it("takes execute-only entries for a misconfiguration where L1 sees no such capability", () => {
    for (const executeOnly of [true, false]) {
      const guest = new NestedEpt();
      guest.mapEpt(L2, PAGE, EPT.x);
      guest.vcpu.enterNested(UNPAGED, { ...guest.stage, executeOnly } as SecondStage);
      guest.vcpu.enterGuest();
      const outcome = guest.vcpu.pageFault(L2, 0x10);
      if (executeOnly) expect(outcome).toEqual({ result: "fixed" });
      else {
        expect(outcome).toMatchObject({ result: "inject", nested: true });
        // A misconfiguration has no qualification.
        expect(outcome).not.toHaveProperty("exitInfo");
      }
      guest.dispose();
    }
  });

  it("gives L2 what L1's EPT gives it: read, write, execute, execute-only", () => {
    const guest = new NestedEpt();
    guest.mapEpt(L2, PAGE);
    guest.mapEpt(L2 + 0x1000n, PAGE + 0x1000n, EPT.x);
    guest.mapEpt(L2 + 0x2000n, PAGE + 0x2000n, EPT.r);
    guest.enter();
    expect(guest.touch(L2, Access.Write)).toBe(GFN);
    expect(guest.touch(L2 + 0x1000n, Access.Fetch)).toBe(GFN + 1n);
    expect(guest.touch(L2 + 0x1000n, Access.Read)).toMatchObject({ result: "inject", nested: true, errorCode: 5 });
    expect(guest.touch(L2 + 0x2000n, Access.Read)).toBe(GFN + 2n);
    expect(guest.touch(L2 + 0x2000n, Access.Write)).toMatchObject({ result: "inject", nested: true, errorCode: 3 });
    expect(guest.touch(L2 + 0x2000n, Access.Fetch)).toMatchObject({ result: "inject", nested: true, errorCode: 1 });
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("reports a misconfiguration as a reserved-bit fault, a missing entry as none", () => {
    const guest = new NestedEpt();
    guest.mapEpt(L2, PAGE, EPT.w);
    guest.enter();
    expect(guest.touch(L2, Access.Write)).toMatchObject({ result: "inject", nested: true, errorCode: 0xb });
    expect(guest.touch(L2 + 0x1000n, Access.Read)).toMatchObject({ result: "inject", nested: true, errorCode: 4 });
    guest.dispose();
  });

  it.each([true, false])("sets accessed and dirty bits in L1's EPT only where it has them (%s)", (accessedDirty) => {
    const guest = new NestedEpt({}, accessedDirty);
    const leaf = guest.mapEpt(L2, PAGE);
    guest.enter();
    guest.touch(L2, Access.Read);
    expect(guest.read(leaf) & (EPT.a | EPT.d)).toBe(accessedDirty ? EPT.a : 0n);
    guest.touch(L2, Access.Write);
    expect(guest.read(leaf) & (EPT.a | EPT.d)).toBe(accessedDirty ? EPT.a | EPT.d : 0n);
    guest.dispose();
  });

  it("maps neighbours ahead as not accessed where L1's EPT has no accessed bits", () => {
    const guest = new NestedEpt({}, false);
    // The first of eight: prefetching ends at an entry that maps nothing.
    const first = 0x40_0000n;
    for (const at of [0n, 0x1000n]) guest.mapEpt(first + at, PAGE + at);
    guest.enter();
    guest.touch(first, Access.Read);
    const [, ahead] = leavesOf(guest, first);
    expect(ahead! & 7n).toBe(0n);
    // Read and execute are saved in bits 54 and 56.
    expect((ahead! >> 54n) & 5n).toBe(5n);
    expect(guest.touch(first + 0x1000n, Access.Read)).toBe(GFN + 1n);
    expect(leavesOf(guest, first)[1]! & 5n).toBe(5n);
    guest.dispose();
  });

  it("is freed by INVEPT of its table or of all, and by nothing else", () => {
    const guest = new NestedEpt();
    guest.mapEpt(L2, PAGE);
    guest.enter();
    guest.exit();
    const root = () => guest.vcpu.state.guestMmu.roots.current.page;
    expect(guest.vcpu.invept(0x7_7000n | 0x1en)).toBe(true);
    expect(root()).not.toBe(0);
    if (guest.stage.kind !== "ept") throw new RangeError("not EPT");
    expect(guest.vcpu.invept(guest.stage.eptp & ~0x40n)).toBe(true);
    expect(root()).toBe(0);
    guest.enter();
    guest.exit();
    expect(guest.vcpu.invept("all")).toBe(true);
    expect(root()).toBe(0);
    guest.dispose();
  });

  const NO_AD = { masks: eptMasks({ physBits: 46, accessedDirty: false }) };
  it.each<[string, (eptp: bigint) => bigint, GuestConfig]>([
    ["memory type 2", (eptp) => (eptp & ~7n) | 2n, {}],
    ["an uncached table, which KVM does not offer", (eptp) => eptp & ~7n, {}],
    ["three levels", (eptp) => (eptp & ~0x38n) | 0x10n, {}],
    ["five levels on a processor with four", (eptp) => (eptp & ~0x38n) | 0x20n, {}],
    ["eight levels", (eptp) => eptp | 0x38n, {}],
    ["accessed and dirty flags on a processor without", (eptp) => eptp | 0x40n, NO_AD],
    ["bit 7", (eptp) => eptp | 0x80n, {}],
    ["bit 11", (eptp) => eptp | 0x800n, {}],
    ["an address beyond MAXPHYADDR", (eptp) => eptp | (1n << 46n), {}],
    ["bit 63", (eptp) => eptp | (1n << 63n), {}],
  ])("stays after INVEPT with %s: the operand is invalid", (_what, change, config) => {
    const guest = new NestedEpt(config, config.masks === undefined);
    guest.mapEpt(L2, PAGE);
    guest.enter();
    expect(guest.touch(L2, Access.Read)).toBe(GFN);
    guest.exit();
    const { page } = guest.vcpu.state.guestMmu.roots.current;
    if (guest.stage.kind !== "ept") throw new RangeError("not EPT");
    expect(guest.vcpu.invept(change(guest.stage.eptp))).toBe(false);
    expect(guest.vcpu.state.guestMmu.roots.current.page).toBe(page);
    guest.dispose();
  });

  it("is freed by INVEPT with five levels where the processor has them", () => {
    const guest = new NestedEpt({ tdpLevels: { forced: 0, max: 5 } });
    guest.mapEpt(L2, PAGE);
    guest.enter();
    guest.exit();
    if (guest.stage.kind !== "ept") throw new RangeError("not EPT");
    expect(guest.vcpu.invept((guest.stage.eptp & ~0x38n) | 0x20n)).toBe(true);
    expect(guest.vcpu.state.guestMmu.roots.current.page).toBe(0);
    guest.dispose();
  });

  it("drops a faulting address from cached EPTPs of the same table too: a processor's TLB goes by the table", () => {
    const guest = new NestedEpt();
    const leaf = guest.mapEpt(L2, PAGE, EPT.r);
    const other = guest.mapEpt(L2 + 0x1000n, PAGE + 0x1000n, EPT.r);
    const { stage } = guest;
    if (stage.kind !== "ept") throw new RangeError("not EPT");
    const withoutAd: SecondStage = { ...stage, eptp: stage.eptp & ~0x40n, accessedDirty: false };
    for (const one of [stage, withoutAd]) {
      guest.vcpu.enterNested(UNPAGED, one);
      for (const gpa of [L2, L2 + 0x1000n]) expect(typeof guest.touch(gpa, Access.Read)).toBe("bigint");
      guest.exit();
    }
    // L1 takes the pages away without a flush, so both EPTPs may still lead to them.
    for (const at of [leaf, other]) expect(guest.l1Write(at, 0n)).toBe("written");
    guest.vcpu.enterNested(UNPAGED, stage);
    expect(guest.touch(L2, Access.Read)).toBe(GFN);
    expect(guest.touch(L2, Access.Write)).toMatchObject({ result: "inject", nested: true });
    guest.exit();
    guest.vcpu.enterNested(UNPAGED, withoutAd);
    guest.vcpu.enterGuest();
    expect(guest.second(L2, Access.Read).ok).toBe(false);
    expect(guest.second(L2 + 0x1000n, Access.Read).ok).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("drops it from the oldest cached root as well", () => {
    const guest = new NestedEpt();
    const leaf = guest.mapEpt(L2, PAGE, EPT.r);
    const { stage } = guest;
    if (stage.kind !== "ept") throw new RangeError("not EPT");
    const withoutAd: SecondStage = { ...stage, eptp: stage.eptp & ~0x40n, accessedDirty: false };
    const elsewhere = (): SecondStage => ({ ...stage, eptp: guest.table() | (stage.eptp & 0xfffn) });
    for (const one of [withoutAd, elsewhere(), elsewhere(), stage]) {
      guest.vcpu.enterNested(UNPAGED, one);
      guest.vcpu.enterGuest();
      if (one === stage || one === withoutAd) expect(guest.touch(L2, Access.Read)).toBe(GFN);
      guest.exit();
    }
    expect(guest.l1Write(leaf, 0n)).toBe("written");
    guest.vcpu.enterNested(UNPAGED, stage);
    expect(guest.vcpu.state.mmu.roots.previous(2).pgd).toBe(withoutAd.eptp);
    expect(guest.touch(L2, Access.Write)).toMatchObject({ result: "inject", nested: true });
    guest.exit();
    guest.vcpu.enterNested(UNPAGED, withoutAd);
    guest.vcpu.enterGuest();
    expect(guest.second(L2, Access.Read).ok).toBe(false);
    guest.dispose();
  });

  // L2's CR4.PAE is no business of the tables for L1's EPT: only their own role decides what is synchronised.
  it("is synchronised when L2 runs with CR4.PAE=0: the assertion on the role does not fire", () => {
    const guest = new NestedEpt();
    const leaf = guest.mapEpt(L2, PAGE);
    const twoLevel = { cr0: 0x8001_0001n, cr3: 0n, cr4: 0x10n, efer: 0n };
    guest.enter(twoLevel);
    expect(guest.touch(L2, Access.Read)).toBe(GFN);
    guest.exit();
    expect(guest.l1Write(leaf, (PAGE + 0x3000n) | 7n | EPT.a | EPT.wb)).toBe("written");
    expect(UNSYNC(guest)).toBe(1);
    guest.vcpu.invept("all");
    guest.enter(twoLevel);
    expect(UNSYNC(guest)).toBe(0);
    expect(guest.touch(L2, Access.Read)).toBe(GFN + 3n);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("PDPTEs of a PAE nested guest under EPT", () => {
  const GVA = 0x4567_8000n;
  const PAE_REGISTERS = registersOf("pae", 0n);
  /** Two page-directory-pointer tables of L2's, which map GVA to PAGE and to the page after it. */
  const started = () => {
    const guest = new NestedEpt();
    guest.mode = "pae";
    const roots = [0n, 1n].map((i) => {
      const root = guest.table();
      guest.map(root, GVA, PAGE + (i << 12n));
      return root;
    }) as [bigint, bigint];
    guest.mode = "4level";
    for (let gpa = 0x10_0000n; gpa < 0x18_0000n; gpa += 0x1000n) guest.mapEpt(gpa, gpa);
    for (const i of [0n, 1n]) guest.mapEpt(PAGE + (i << 12n), PAGE + (i << 12n));
    const at = (root: bigint) =>
      [0n, 8n, 16n, 24n].map((i) => guest.read(root + i)) as [bigint, bigint, bigint, bigint];
    const enter = (cr3: bigint, pdptes?: [bigint, bigint, bigint, bigint]) => {
      guest.vcpu.enterNested({ ...PAE_REGISTERS, cr3 }, { ...guest.stage, ...(pdptes && { pdptes }) } as SecondStage);
      guest.vcpu.enterGuest();
    };
    const walk = () => {
      const found = guest.vcpu.walk(GVA, 0);
      return found.ok ? found.gpa : found;
    };
    return { guest, roots, at, enter, walk };
  };

  it("are loaded from the VMCS at VM entry, and CR3 is not looked at", () => {
    const { guest, roots, at, enter, walk } = started();
    enter(roots[0], at(roots[1]));
    expect(walk()).toBe(PAGE + 0x1000n);
    guest.dispose();
  });

  it("are loaded from memory, through L1's EPT, where L2 writes CR3", () => {
    const { guest, roots, at, enter, walk } = started();
    enter(roots[0], at(roots[0]));
    guest.vcpu.setGuestRegisters({ cr3: roots[1] });
    expect(walk()).toBe(PAGE + 0x1000n);
    // A write to the table shows only when CR3 is written again.
    guest.poke(roots[1] + 8n, 0n);
    expect(walk()).toBe(PAGE + 0x1000n);
    guest.dispose();
  });

  it("are loaded anew where L2 writes the CR3 that it has", () => {
    const { guest, roots, at, enter, walk } = started();
    enter(roots[0], at(roots[1]));
    guest.vcpu.setGuestRegisters({ cr3: roots[0] });
    expect(walk()).toBe(PAGE);
    guest.dispose();
  });

  it("are saved at VM exit and found again at the next entry, L1's own in between", () => {
    const { guest, roots, at, enter, walk } = started();
    enter(roots[0], at(roots[1]));
    guest.vcpu.exitNested({ ...PAE_REGISTERS, cr3: roots[0] });
    enter(roots[0]);
    expect(walk()).toBe(PAGE + 0x1000n);
    guest.dispose();
  });

  it("are at the next entry what they were at the exit, not at the entry before it", () => {
    const { guest, roots, at, enter, walk } = started();
    enter(roots[0], at(roots[0]));
    guest.vcpu.setGuestRegisters({ cr3: roots[1] });
    guest.vcpu.exitNested({ ...PAE_REGISTERS, cr3: roots[0] });
    enter(roots[0]);
    expect(walk()).toBe(PAGE + 0x1000n);
    // Fields that L1 writes win over those.
    guest.vcpu.exitNested({ ...PAE_REGISTERS, cr3: roots[0] });
    enter(roots[0], at(roots[0]));
    expect(walk()).toBe(PAGE);
    guest.dispose();
  });

  it("are refused with reserved bits before anything changes", () => {
    const { guest, roots, enter } = started();
    expect(() => enter(roots[0], [2n | 1n, 0n, 0n, 0n])).toThrow(/reserved/);
    expect(guest.vcpu.inGuestMode).toBe(false);
    guest.dispose();
  });
});

describe("shadow NPT of 4-byte tables", () => {
  it.each([3, 4, 5] as const)("is synchronised without the assertion on the role firing (%i levels)", (level) => {
    const guest = new NestedNpt(level, "32");
    const leaf = guest.map(guest.root, L2, PAGE);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    expect(guest.l1Write(leaf, (PAGE + 0x3000n) | FULL)).toBe("written");
    expect(UNSYNC(guest)).toBeGreaterThan(0);
    guest.enter();
    expect(UNSYNC(guest)).toBe(0);
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN + 3n);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("denies L2 a page that L1 maps for supervisors only, as every access is a user's", () => {
    const guest = new NestedNpt(4, "32");
    guest.map(guest.root, L2, PAGE, FULL & ~US);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toMatchObject({ result: "inject", nested: true, errorCode: 5 });
    guest.dispose();
  });
});

describe("a table of L1's in a page of 1 GiB of the host's", () => {
  it.each([true, false])("cannot be written through that page while it is shadowed (mapped before: %s)", (before) => {
    const [gpa, hva] = [0x1_0000_0000n, 0x7fc0_0000_0000n];
    const page = (at: bigint) => ({ pfn: 0x400_0000n + ((at & 0x7f_ffff_ffffn) >> 12n), writable: true });
    const host = (at: bigint) => ({ ...page(at), level: at >= hva ? 3 : 1 });
    const guest = new NestedNpt(4, "4level", { hostMemory: { pin: host, peek: host } });
    const ram = guest.vm.createRam(0x1_0000);
    guest.vm.setSlot({ id: 7, gpa, size: 1 << 30, ram, ramSize: 0x1_0000, hva });
    const write = Access.Write | Access.User;
    const sizeOf = (at: bigint, access: number) => {
      const found = guest.second(at, access);
      return found.ok ? found.pageSize : 0;
    };
    if (before) {
      guest.vcpu.enterGuest();
      expect(guest.vcpu.pageFault(gpa + 0x1000n, 6).result).toBe("fixed");
      expect(sizeOf(gpa + 0x2000n, write)).toBe(1 << 30);
    }
    guest.map(guest.root, L2 + 0x20_0000n, PAGE + 0x1000n);
    let table = guest.root;
    for (let level = 4; level > 2; level--) table = guest.read(guest.entryAddress(table, L2, level)) & ~0xfffn;
    guest.poke(guest.entryAddress(table, L2, 2), (gpa + 0x2000n) | FULL);
    guest.poke(guest.entryAddress(gpa + 0x2000n, L2, 1), PAGE | FULL);
    guest.enter();
    expect(guest.touch(L2, Access.Read | Access.User)).toBe(GFN);
    guest.exit();
    expect(guest.vcpu.pageFault(gpa + 0x20_1000n, 6).result).toBe("fixed");
    expect(sizeOf(gpa + 0x20_1000n, write)).toBe(0x20_0000);
    expect(sizeOf(gpa + 0x2000n, write)).toBe(0);
    guest.dispose();
  });
});

describe("below a large page of L1's", () => {
  it("the small pages of some rights stay when others take their place, for the next time", () => {
    const guest = new NestedNpt(4, "4level");
    // Clean: read-only until L2's first write; the host has small pages only.
    guest.map(guest.root, 0x40_0000n, PAGE, FULL & ~D, 2);
    guest.enter();
    const gfn = PAGE >> 12n;
    const below = () => guest.vm.pages().filter((page) => roleIsDirect(page.role) && page.gfn === gfn);
    expect(guest.touch(0x40_0000n, Access.Read | Access.User)).toBe(gfn);
    const [first] = below();
    const zapped = guest.vm.counter("ZAPPED");
    expect(guest.touch(0x40_1000n, Access.Write | Access.User)).toBe(gfn + 1n);
    expect(below().length).toBe(2);
    expect(below().map((page) => page.pointer)).toContain(first!.pointer);
    expect(guest.vm.counter("ZAPPED")).toBe(zapped);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("L2's own tables in read-only memory", () => {
  it.each(["4level", "pae", "32"] as const)("keep the flags that they have (%s)", (mode) => {
    const guest = new NestedNpt(4, "4level");
    const ram = guest.vm.createRam(0x4000);
    const at = 0x9000_0000n;
    const gva = 0x3000n;
    const tables = Array.from({ length: mode === "4level" ? 4 : 2 }, (_, i) => at + (BigInt(i) << 12n));
    // Neither accessed nor dirty.
    const entries = [...tables.slice(1), PAGE].map((gpa) => gpa | P | RW | US);
    const bytes = mode === "32" ? 4 : 8;
    const indices = tables.map((_, i) => (i === tables.length - 1 ? Number(gva >> 12n) : 0));
    const place = (i: number) => tables[i]! + BigInt(indices[i]! * bytes);
    guest.vm.setSlot({ id: 8, gpa: at, size: 0x4000, ram });
    entries.forEach((entry, i) => {
      guest.vm.writeGuest(place(i), bytesOf(entry, bytes));
    });
    const pointers = guest.table();
    guest.vm.writeGuest(pointers, bytesOf(at | P, 8));
    guest.vm.setSlot({ id: 8, gpa: at, size: 0 });
    guest.vm.setSlot({ id: 8, gpa: at, size: 0x4000, ram, readOnly: true });
    for (const gpa of [...tables, PAGE, pointers & ~0xfffn]) guest.map(guest.root, gpa, gpa);
    guest.enter(registersOf(mode, mode === "pae" ? pointers : at));
    const found = guest.vcpu.walk(gva, 2);
    expect(found).toMatchObject({ ok: true, gpa: PAGE });
    entries.forEach((entry, i) => {
      expect(guest.vm.readGuest(place(i), bytes)).toEqual(bytesOf(entry, bytes));
    });
    guest.dispose();
  });
});

describe("PDPTEs of a PAE nested guest under NPT", () => {
  it.each([0, 1, 2, 3])("are taken all or none: a reserved bit in number %i keeps the old ones in force", (bad) => {
    const guest = new NestedNpt(4, "4level");
    const [pointers, directory, table] = [guest.table(), guest.table(), guest.table()];
    const gva = 0x3000n;
    const poke = (gpa: bigint, entry: bigint) => guest.vm.writeGuest(gpa, bytesOf(entry, 8));
    for (let i = 0n; i < 4n; i++) poke(pointers + 8n * i, directory | P | (i === BigInt(bad) ? 1n << 50n : 0n));
    poke(directory, table | FULL);
    poke(table + 8n * 3n, PAGE | FULL);
    for (const gpa of [pointers, directory, table, PAGE]) guest.map(guest.root, gpa, gpa);
    guest.enter(registersOf("pae", pointers));
    // Before the first that are good there are none.
    expect(guest.vcpu.walk(gva, 0)).toMatchObject({ ok: false, nested: false, errorCode: 0 });
    poke(pointers + 8n * BigInt(bad), directory | P);
    expect(guest.vcpu.walk(gva, 0)).toMatchObject({ ok: true, gpa: PAGE });
    guest.dispose();
  });
});

describe("PKRU", () => {
  it("is asked in walks of L2's tables as in L1's", () => {
    const guest = new NestedNpt(4, "4level");
    const PKE = 0x40_0000n;
    const key = 3n;
    const root = guest.table();
    guest.map(root, 0x3000n, PAGE, FULL | (key << 59n));
    for (let gpa = 0x10_0000n; gpa < 0x14_0000n; gpa += 0x1000n) guest.map(guest.root, gpa, gpa);
    guest.map(guest.root, PAGE, PAGE);
    const registers = registersOf("4level", root, { cr4: PKE });
    guest.enter(registers);
    expect(guest.vcpu.walk(0x3000n, 4)).toMatchObject({ ok: true, gpa: PAGE });
    guest.vcpu.setPkru(1 << (2 * Number(key)));
    expect(guest.vcpu.walk(0x3000n, 4)).toMatchObject({ ok: false, nested: false, errorCode: 0x25 });
    guest.dispose();
  });
});
