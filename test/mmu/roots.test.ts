/** How roots are made: PAE roots, promoted ones, roots that lie in no slot. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { roleGuestLevel, roleIsPaeRoot, roleIsPromoted, roleLevel } from "../../src/role/index.js";
import { legacyMasks } from "../../src/spte/index.js";
import { bytesOf, core, FULL, Guest, type Mode, P, registersOf } from "./guest.js";

const GVA = 0x40_3000n;
const PAGE = 0x20_0000n;
const PRESENT = 1n << 11n;

function started(mode: Mode, config = {}): { guest: Guest; root: bigint; leaf: bigint } {
  const guest = new Guest(config);
  guest.mode = mode;
  const root = guest.table();
  const leaf = guest.map(root, GVA, PAGE);
  // The table that holds the leaf, and the root, can be written by the guest through these addresses.
  guest.map(root, 0x10_0000n + (leaf & 0xf_f000n), leaf & ~0xfffn);
  guest.map(root, 0x10_0000n + (root & 0xf_f000n), root & ~0xfffn);
  guest.start(mode, root);
  return { guest, root, leaf };
}

/** The pages from the root down to the guest's own root table. */
function upper(guest: Guest) {
  return guest.vm
    .pages()
    .filter((page) => roleIsPromoted(page.role))
    .sort((a, b) => roleLevel(b.role) - roleLevel(a.role));
}

describe.each([
  ["2->3", "32", 3],
  ["2->4", "32", 4],
  ["2->5", "32", 5],
  ["3->4", "pae", 4],
  ["3->5", "pae", 5],
  ["4->5", "4level", 5],
] as const)("level promotion %s", (_name, mode, level) => {
  const guestLevel = { "32": 2, pae: 3, "4level": 4 }[mode];

  it("stacks promoted pages of the guest root's gfn on the guest's own root level", () => {
    const { guest, root } = started(mode, { minimumRootLevel: level });
    expect(guest.access(GVA, Access.Write)).toBe("ok");
    const promoted = upper(guest);
    expect(promoted.map((page) => roleLevel(page.role))).toEqual(
      Array.from({ length: level - guestLevel }, (_, i) => level - i),
    );
    for (const page of promoted) {
      expect(page.gfn).toBe(root >> 12n);
      expect(roleGuestLevel(page.role)).toBe(guestLevel);
    }
    const own = guest.vm.pages().filter((page) => roleLevel(page.role) === guestLevel && page.gfn === root >> 12n);
    expect(own.length).toBe(mode === "32" ? 4 : 1);
    for (const page of own) expect(roleIsPromoted(page.role)).toBe(false);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("does not count the promoted pages as write-protected tables", () => {
    const { guest } = started(mode, { minimumRootLevel: level });
    guest.access(GVA, Access.Read);
    const before = guest.vm.counter("INDIRECT");
    const tables = guest.vm.pages().filter((page) => !roleIsPromoted(page.role) && !roleIsPaeRoot(page.role));
    // A PAE guest's PDPTEs are latched: its root table is not shadowed entry by entry.
    const latched = tables.filter((page) => roleLevel(page.role) === 3 && mode === "pae");
    expect(before).toBe(tables.length - latched.length);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("keeps the promoted entry when the guest writes entry 0 of its root table", () => {
    const { guest, root } = started(mode, { minimumRootLevel: level });
    guest.access(GVA, Access.Read);
    const before = upper(guest).map((page) => page.entries.get(0));
    const entry = guest.read(root);
    guest.write(0x10_0000n + (root & 0xf_f000n), root, entry);
    expect(upper(guest).map((page) => page.entries.get(0))).toEqual(before);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("synchronises below promoted pages when CR3 is written", () => {
    const { guest, root, leaf } = started(mode, { minimumRootLevel: level });
    guest.access(GVA, Access.Write);
    expect(guest.write(0x10_0000n + (leaf & 0xf_ffffn), leaf, (PAGE + 0x1000n) | FULL)).toBe("ok");
    expect(guest.vm.pages().some((page) => page.unsync)).toBe(true);
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    expect(guest.vm.pages().some((page) => page.unsync)).toBe(false);
    const found = guest.hardware(GVA, Access.Read);
    expect(found.ok && guest.gfnOf(found.pa)).not.toBe(PAGE >> 12n);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const after = guest.hardware(GVA, Access.Read);
    expect(after.ok && guest.gfnOf(after.pa)).toBe((PAGE >> 12n) + 1n);
    expect(guest.vm.counter("SYNC_MISMATCH")).toBe(0);
    guest.dispose();
  });
});

describe("a pae_root", () => {
  it.each(["nopg", "32", "pae"] as const)("of a %s guest lies below 4 GiB and holds PDPTEs", (mode) => {
    const guest = new Guest();
    guest.mode = mode;
    const root = guest.table();
    if (mode !== "nopg") guest.map(root, GVA, PAGE);
    guest.start(mode, root);
    guest.access(mode === "nopg" ? PAGE : GVA, Access.Write);
    const [page] = guest.vm.pages().filter((one) => roleIsPaeRoot(one.role));
    expect(page!.hostAddress < 1n << 32n).toBe(true);
    for (const spte of page!.entries.values()) expect(spte & 0xfffn).toBe(PRESENT | P);
    for (const other of guest.vm.pages()) {
      if (!roleIsPaeRoot(other.role)) expect(other.hostAddress >= 1n << 32n).toBe(true);
    }
    guest.dispose();
  });

  it("leaves entries of absent PDPTEs zero", () => {
    const { guest } = started("pae");
    const [page] = guest.vm.pages().filter((one) => roleIsPaeRoot(one.role));
    expect([...page!.entries.keys()]).toEqual([0]);
    guest.dispose();
  });

  it("is decrypted when it is made and encrypted again when it goes, by one helper that also takes the cached page back", () => {
    const calls: string[] = [];
    const guest = new Guest({
      masks: legacyMasks({ physBits: 46, addressBits: 45, encryption: { mask: 1n << 45n, value: 1n << 45n } }),
      hostPhysicalBits: 45,
      encryption: {
        decrypt: (address) => calls.push(`decrypt ${address}`),
        encrypt: (address) => calls.push(`encrypt ${address}`),
      },
    });
    guest.mode = "pae";
    const root = guest.table();
    guest.map(root, GVA, PAGE);
    guest.start("pae", root);
    guest.vcpu.pageFault(GVA, 0);
    const [page] = guest.vm.pages().filter((one) => roleIsPaeRoot(one.role));
    expect(calls).toContain(`decrypt ${page!.hostAddress}`);
    for (const spte of page!.entries.values()) expect(spte & (1n << 45n)).toBe(1n << 45n);
    // A request is served with another one in stock, which nobody needs.
    guest.vcpu.writeCr3(root);
    guest.vcpu.enterGuest();
    const count = (word: string) => calls.filter((call) => call.startsWith(word)).length;
    expect([count("decrypt"), count("encrypt")]).toEqual([2, 0]);
    guest.dispose();
    const pages = (word: string) => calls.flatMap((call) => (call.startsWith(word) ? [call.split(" ")[1]] : [])).sort();
    expect(pages("encrypt")).toEqual(pages("decrypt"));
  });

  it("looks the same to the guest with default PDPTEs in its unused entries", () => {
    const results = [false, true].map((defaultPaePdpte) => {
      const { guest, root, leaf } = started("pae", { defaultPaePdpte });
      const seen: unknown[] = [];
      const probe = () => {
        for (const gva of [GVA, 0x4000_0000n, 0x8000_0000n, 0xc000_1000n]) {
          const found = guest.hardware(gva, Access.Read);
          seen.push(found.ok ? guest.gfnOf(found.pa) : found.errorCode);
        }
      };
      probe();
      seen.push(guest.access(GVA, Access.Write), guest.access(0x8000_0000n, Access.Read));
      probe();
      // A third PDPTE appears, then the first goes.
      guest.map(root, 0x8000_0000n, PAGE + 0x2000n);
      guest.vcpu.writeCr3(root);
      seen.push(guest.access(0x8000_0000n, Access.Read));
      probe();
      guest.poke(root, 0n);
      guest.vcpu.writeCr3(root);
      guest.vcpu.enterGuest();
      probe();
      guest.vm.unprotectGfn(leaf >> 12n);
      expect(guest.vm.audit()).toEqual([]);
      const entries = guest.vm.pages().filter((page) => roleIsPaeRoot(page.role));
      const unused = entries
        .flatMap((page) => [0, 1, 2, 3].map((i) => page.entries.get(i) ?? 0n))
        .filter((e) => !(e & PRESENT));
      for (const entry of unused) expect(entry !== 0n).toBe(defaultPaePdpte);
      guest.dispose();
      return seen;
    });
    expect(results[1]).toEqual(results[0]);
  });
});

describe("the objections to roots from the hash", () => {
  it("1: PAE tables that share a page are told apart by CR3 bits 11:5", () => {
    const guest = new Guest();
    guest.mode = "pae";
    const page = guest.table();
    const [first, second] = [page + 0x20n, page + 0xfe0n];
    guest.map(first, GVA, PAGE);
    guest.map(second, GVA, PAGE + 0x1000n);
    guest.start("pae", first);
    const gfn = () => {
      expect(guest.access(GVA, Access.Read)).toBe("ok");
      const found = guest.hardware(GVA, Access.Read);
      return found.ok ? guest.gfnOf(found.pa) : undefined;
    };
    expect(gfn()).toBe(0x200n);
    guest.vcpu.writeCr3(second);
    expect(gfn()).toBe(0x201n);
    guest.vcpu.writeCr3(first);
    expect(gfn()).toBe(0x200n);
    expect(guest.vm.pages().filter((one) => roleIsPaeRoot(one.role))).toHaveLength(2);
    expect(guest.vcpu.state.rootMmu.roots.hits).toBe(1);
    guest.dispose();
  });

  it.each([3, 4, 5] as const)("2: latched PDPTEs stay in force until CR3 is written (roots of level %i)", (level) => {
    const { guest, root } = started("pae", { minimumRootLevel: level });
    guest.access(GVA, Access.Read);
    const other = guest.table();
    const entry = guest.entryAddress(other, GVA, 2);
    const leafTable = guest.table();
    guest.poke(entry, leafTable | FULL);
    guest.poke(guest.entryAddress(leafTable, GVA, 1), (PAGE + 0x1000n) | FULL);
    // The guest's own write to its PDPT is not intercepted: the table is not write-protected.
    expect(guest.write(0x10_0000n + (root & 0xf_f000n), root, other | P)).toBe("ok");
    const gfn = () => {
      expect(guest.access(GVA, Access.Read)).toBe("ok");
      const found = guest.hardware(GVA, Access.Read);
      return found.ok ? guest.gfnOf(found.pa) : undefined;
    };
    expect(gfn()).toBe(0x200n);
    guest.vcpu.writeCr3(root);
    expect(gfn()).toBe(0x201n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("2: a root matches only a vCPU that latched the same four PDPTEs", () => {
    const { guest, root } = started("pae");
    guest.access(GVA, Access.Read);
    const other = guest.table();
    guest.poke(root, other | P);
    const second = guest.vm.createVcpu(registersOf("pae", root));
    second.enterGuest();
    expect(second.state.rootMmu.roots.current.page).not.toBe(guest.vcpu.state.rootMmu.roots.current.page);
    expect(guest.hardware(GVA, Access.Read, guest.vcpu).ok).toBe(true);
    expect(guest.hardware(GVA, Access.Read, second).ok).toBe(false);
    guest.dispose();
  });

  it("3: the guest level keeps 3->5 and 4->5 apart, and a PAE table from a level-3 one, on the same gfn", () => {
    const guest = new Guest({ minimumRootLevel: 5 });
    guest.mode = "pae";
    const root = guest.table();
    guest.map(root, GVA, PAGE);
    const pae = guest.start("pae", root);
    guest.access(GVA, Access.Read, pae);
    guest.mode = "4level";
    const long = guest.start("4level", root);
    expect(long.state.rootMmu.roots.current.page).not.toBe(pae.state.rootMmu.roots.current.page);
    const levels = upper(guest)
      .filter((page) => roleLevel(page.role) === 5)
      .map((page) => roleGuestLevel(page.role));
    expect(levels.sort()).toEqual([3, 4]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("gives the other mode's page to no guest that toggles CR4.LA57 on one root gfn", () => {
    const guest = new Guest();
    guest.mode = "4level";
    const root = guest.table();
    guest.map(root, GVA, PAGE);
    guest.start("4level", root);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const before = guest.vcpu.state.rootMmu.roots.current.page;
    guest.vcpu.setRegisters(registersOf("5level", root));
    guest.mode = "5level";
    guest.vcpu.enterGuest();
    expect(guest.vcpu.state.rootMmu.roots.current.page).not.toBe(before);
    expect(guest.hardware(GVA, Access.Read).ok).toBe(false);
    guest.vcpu.setRegisters(registersOf("4level", root));
    guest.mode = "4level";
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const shared = new Set(
      guest.vm
        .pages()
        .filter((page) => page.gfn === root >> 12n)
        .map((page) => page.role),
    );
    expect(shared.size).toBe(2);
    guest.dispose();
  });
});

describe("a root table in no slot", () => {
  it.each([
    ["32", 0x9000_0000n],
    ["pae", 0x9000_0000n],
    ["4level", 0x9000_0000n],
    ["5level", 0x9000_0000n],
  ] as const)("makes a %s guest triple-fault, and nothing is loaded", (mode, root) => {
    const { guest } = started("4level");
    const vcpu = guest.vm.createVcpu(registersOf(mode, root));
    const pages = guest.vm.pages();
    expect(vcpu.enterGuest()).toBe(false);
    expect(vcpu.state.rootMmu.roots.pages()).toEqual([]);
    expect(guest.vm.pages()).toEqual(pages);
    expect(guest.vcpu.enterGuest()).toBe(true);
    guest.dispose();
  });

  it("is noticed for a PAE guest's directories too", () => {
    const { guest, root } = started("pae");
    guest.poke(root + 8n, 0x9000_0000n | P);
    guest.vcpu.writeCr3(root);
    expect(guest.vcpu.enterGuest()).toBe(false);
    guest.dispose();
  });
});

describe("shadow pages", () => {
  it("are shared by vCPUs with the same root table", () => {
    const { guest, root } = started("4level");
    const second = guest.vm.createVcpu(registersOf("4level", root));
    second.enterGuest();
    expect(second.state.rootMmu.roots.current.page).toBe(guest.vcpu.state.rootMmu.roots.current.page);
    guest.access(GVA, Access.Write);
    expect(guest.hardware(GVA, Access.Write, second).ok).toBe(true);
    guest.dispose();
  });

  it("belong to one VM", () => {
    const a = started("4level");
    const b = started("4level");
    a.guest.access(GVA, Access.Read);
    expect(b.guest.hardware(GVA, Access.Read).ok).toBe(false);
    a.guest.dispose();
    b.guest.dispose();
  });

  it("of a 4-byte guest table stand for a half or a quarter of it", () => {
    const { guest, root } = started("32");
    guest.map(root, GVA + 0x20_0000n, PAGE + 0x5000n);
    guest.access(GVA, Access.Read);
    guest.access(GVA + 0x20_0000n, Access.Read);
    const found = [GVA, GVA + 0x20_0000n].map((gva) => guest.hardware(gva, Access.Read));
    expect(found.map((one) => one.ok && guest.gfnOf(one.pa))).toEqual([0x200n, 0x205n]);
    // A write to the directory entry drops both SPTEs that stand for it.
    const entry = guest.entryAddress(root, GVA, 2);
    guest.vcpu.emulatedWrite(entry, bytesOf(0n, 4));
    for (const gva of [GVA, GVA + 0x20_0000n]) expect(guest.hardware(gva, Access.Read).ok).toBe(false);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("of a 4-byte guest table go where a PAE vCPU writes four bytes: half of an entry of its own", () => {
    const { guest, root } = started("32");
    guest.access(GVA, Access.Read);
    const entry = guest.entryAddress(root, GVA, 2);
    guest.vcpu.emulatedWrite(entry, bytesOf(guest.read(entry), 4));
    expect(guest.vm.counter("FLOODED")).toBe(0);
    const pae = guest.vm.createVcpu(registersOf("pae", 0n));
    pae.emulatedWrite(entry, bytesOf(guest.read(entry), 4));
    expect(guest.vm.counter("FLOODED")).toBeGreaterThan(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a VM", () => {
  it("gives all its linear memory back", () => {
    const { linear } = core().internals();
    // The first one may grow the memory.
    started("pae").guest.dispose();
    const before = linear.freeBytes;
    const { guest } = started("pae", { eventCapacity: 64 });
    guest.access(GVA, Access.Write);
    guest.vm.setSlot({ id: 1, gpa: 0x4000_0000n, size: 4 << 20, logDirty: true });
    guest.dispose();
    expect(linear.freeBytes).toBe(before);
  });

  it("refuses a configuration out of range", () => {
    expect(() => new VirtualMachine(core(), { masks: legacyMasks({ physBits: 46 }), hostPhysicalBits: 31 })).toThrow(
      "hostPhysicalBits is 31",
    );
  });
});

describe("a table right below a current root's PDPTEs that is zapped", () => {
  it.each([
    ["pae", 3],
    ["pae", 4],
    ["32", 3],
  ] as const)("makes a fault retry, and the next entry links another (%s, %i levels)", (mode, level) => {
    const { guest, root } = started(mode, { minimumRootLevel: level });
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const directory = mode === "32" ? root : guest.read(root) & ~0xfffn;
    // Written again and again without an access through it, the directory is taken for ordinary memory.
    for (let i = 0; i < 3; i++) guest.vcpu.emulatedWrite(directory + 0x800n, bytesOf(0n, guest.entryBytes));
    expect(guest.hardware(GVA, Access.Read).ok).toBe(false);
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    guest.vcpu.enterGuest();
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a page in the memory of a root that is gone", () => {
  it.each(["pae", "32"] as const)("has nothing of it: neither a gap nor unsync marks (%s)", (mode) => {
    const guest = new Guest();
    guest.mode = mode;
    const root = guest.table();
    const leaf = guest.map(root, GVA, PAGE);
    const window = 0x10_0000n;
    guest.map(root, window, leaf & ~0xfffn);
    guest.start(mode, root);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(guest.write(window + (leaf & 0xfffn), leaf, (PAGE + 0x9000n) | FULL)).toBe("ok");
    const { pointer } = guest.vm.page(guest.vcpu.state.rootMmu.roots.current.page);
    const header = () => guest.vm.state.core.pages.header(pointer);
    expect(header().unsyncChildren).toBeGreaterThan(0);
    guest.mode = "4level";
    const other = guest.table();
    guest.map(other, GVA, PAGE);
    guest.vcpu.setRegisters(registersOf("4level", other));
    guest.vcpu.enterGuest();
    expect(guest.vm.audit()).toEqual([]);
    // And once more, where a table right below a root has gone and nobody has filled the gap.
    guest.mode = mode;
    guest.vcpu.setRegisters(registersOf(mode, root));
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    const directory = mode === "32" ? root : guest.read(root) & ~0xfffn;
    expect(guest.vm.unprotectGfn(directory >> 12n)).toBe(true);
    const gone = guest.vcpu.state.rootMmu.roots.current.page;
    expect(guest.vm.state.core.pages.header(gone).gap).toBe(1);
    guest.mode = "4level";
    const third = guest.table();
    guest.map(third, GVA, PAGE);
    guest.vcpu.setRegisters(registersOf("4level", third));
    guest.vcpu.enterGuest();
    expect(guest.vcpu.state.rootMmu.roots.current.page).toBe(gone);
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("fixed");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});
