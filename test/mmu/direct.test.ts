/** The classic direct MMU: EPT and NPT entries, levels, huge pages. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { type HostMemory, VirtualMachine } from "../../src/mmu/index.js";
import { roleIsDirect, roleIsPaeRoot, roleLevel } from "../../src/role/index.js";
import { eptMasks, legacyMasks } from "../../src/spte/index.js";
import { core, HIGH_SLOT, MMIO_GPA, registersOf } from "./guest.js";
import { type Level, NestedEpt, NestedNpt } from "./nested-guest.js";

const PAGE = 0x20_0000n;
const GFN = PAGE >> 12n;
const LOW = 0xfffn;
const HIGH = 0xfff0_0000_0000_0000n;
const HIGH_HVA = 0x7f40_0000_0000n;

/** A host that maps the second slot by pages of 2 MiB. */
const LARGE_HOST: HostMemory = {
  pin: (hva) => ({ pfn: (hva >> 12n) & 0xff_ffffn, writable: true, level: hva >= HIGH_HVA ? 2 : 1 }),
  peek: (hva) => ({ pfn: (hva >> 12n) & 0xff_ffffn, writable: true, level: hva >= HIGH_HVA ? 2 : 1 }),
};

/** The leaf that maps a guest-physical address, without its page frame. */
function leafOf(guest: NestedEpt | NestedNpt, gpa: bigint): bigint {
  const gfn = gpa >> 12n;
  for (const page of guest.vm.pages().sort((a, b) => roleLevel(a.role) - roleLevel(b.role))) {
    const shift = BigInt(9 * (roleLevel(page.role) - 1));
    const index = Number((gfn - page.gfn) >> shift);
    const spte = gfn < page.gfn ? undefined : page.entries.get(index);
    if (spte !== undefined && index < 512) return spte & (LOW | HIGH);
  }
  throw new RangeError("nothing maps it");
}

describe("EPT entries", () => {
  const started = (config = {}, slot = {}) => {
    const guest = new NestedEpt(config);
    if (Object.keys(slot).length > 0) {
      guest.vm.setSlot({ id: 0, gpa: 0n, size: 1024 * 4096, ram: guest.ram, hva: 0x7f00_0000_0000n, ...slot });
    }
    return guest;
  };
  const NO_AD = { masks: eptMasks({ physBits: 46, accessedDirty: false }) };

  it.each([
    ["a page that was accessed", {}, PAGE, 0x0600_0000_0000_0b77n],
    ["a prefetched neighbour", {}, PAGE + 0x1000n, 0x0600_0000_0000_0a77n],
    ["a page without accessed and dirty bits", NO_AD, PAGE, 0x0610_0000_0000_0877n],
    ["a large page", { hostMemory: LARGE_HOST }, HIGH_SLOT, 0x0600_0000_0000_0bf7n],
    [
      "a large page under the NX-huge-page mitigation",
      { hostMemory: LARGE_HOST, nxHugePages: true },
      HIGH_SLOT,
      0x0600_0000_0000_0bf3n,
    ],
  ] as const)("%s", (_name, config, gpa, expected) => {
    const guest = started(config);
    guest.touch(gpa === HIGH_SLOT ? gpa : PAGE, Access.Write);
    expect(leafOf(guest, gpa)).toBe(expected);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("of a page that the host may only read", () => {
    const host: HostMemory = {
      pin: (hva) => ({ pfn: (hva >> 12n) & 0xff_ffffn, writable: false, level: 1 }),
      peek: () => undefined,
    };
    const guest = started({ hostMemory: host });
    guest.touch(PAGE, Access.Read);
    expect(leafOf(guest, PAGE)).toBe(0x975n);
    guest.dispose();
  });

  it("of a table", () => {
    const guest = started();
    guest.touch(PAGE, Access.Read);
    const root = guest.vm.page(guest.vcpu.state.mmu.roots.current.page);
    expect(root.entries.get(0)! & (LOW | HIGH)).toBe(0x907n);
    guest.dispose();
  });

  it("of MMIO are misconfigured: writable and executable, not readable", () => {
    const guest = started();
    expect(guest.touch(MMIO_GPA, Access.Read)).toMatchObject({ result: "mmio" });
    expect(leafOf(guest, MMIO_GPA) & 7n).toBe(6n);
    expect(guest.vcpu.pageFault(MMIO_GPA, 8)).toEqual({ result: "mmio" });
    guest.dispose();
  });

  it("give an access-tracked page its rights back at the next access, without a table walk of the host", () => {
    const guest = started(NO_AD);
    guest.touch(PAGE, Access.Write);
    const hva = 0x7f00_0000_0000n + PAGE;
    expect(guest.vm.age(hva, hva + 4096n)).toBe(true);
    expect(leafOf(guest, PAGE)).toBe(0x0750_0000_0000_0870n);
    expect(guest.vm.testAge(hva, hva + 4096n)).toBe(false);
    const { hostCalls } = guest.vm.stats;
    expect(guest.touch(PAGE, Access.Write)).toBe(GFN);
    expect(guest.vm.stats.hostCalls).toBe(hostCalls);
    expect(leafOf(guest, PAGE)).toBe(0x0610_0000_0000_0877n);
    expect(guest.vm.testAge(hva, hva + 4096n)).toBe(true);
    guest.dispose();
  });
});

describe("the NX-huge-page mitigation", () => {
  it("gives an executed page small pages, in a table that stays small", () => {
    const guest = new NestedEpt({ hostMemory: LARGE_HOST, nxHugePages: true });
    guest.touch(HIGH_SLOT, Access.Read);
    expect(guest.second(HIGH_SLOT, Access.Fetch).ok).toBe(false);
    guest.touch(HIGH_SLOT, Access.Fetch);
    expect(guest.second(HIGH_SLOT, Access.Fetch).ok).toBe(true);
    expect(guest.vm.pages().some((page) => page.noHugePage)).toBe(true);
    // A read elsewhere in the block does not bring the huge page back.
    guest.touch(HIGH_SLOT + 0x5000n, Access.Read);
    expect(guest.second(HIGH_SLOT, Access.Fetch).ok).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe.each([3, 4, 5] as const)("NPT of %i levels", (level: Level) => {
  it("has one direct root for all of a guest's CR3s, below 4 GiB where CR3 has 32 bits", () => {
    const guest = new NestedNpt(level, "4level");
    expect(guest.touch(PAGE, Access.Write | Access.User)).toBe(GFN);
    const root = guest.vm.page(guest.vcpu.state.rootMmu.roots.current.page);
    expect([roleLevel(root.role), roleIsDirect(root.role), roleIsPaeRoot(root.role)]).toEqual([
      level,
      true,
      level === 3,
    ]);
    expect(root.hostAddress < 1n << 32n).toBe(level === 3);
    guest.vcpu.setGuestRegisters({ cr3: 0x5_5000n });
    guest.vcpu.writeCr3(0x6_6000n);
    guest.vcpu.enterGuest();
    expect(guest.vcpu.state.rootMmu.roots.current.page).toBe(root.pointer);
    expect(guest.second(PAGE, Access.Write | Access.User).ok).toBe(true);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("keeps its root when CR0.WP changes, and frees it when paging does", () => {
    const guest = new NestedNpt(level, "4level");
    // ET is always set by a write to CR0.
    guest.vcpu.writeCr0(guest.vcpu.registers.cr0);
    guest.vcpu.enterGuest();
    const root = guest.vcpu.state.rootMmu.roots.current.page;
    const { cr0 } = guest.vcpu.registers;
    guest.vcpu.writeCr0(cr0 ^ 0x10000n);
    expect(guest.vcpu.state.rootMmu.roots.current.page).toBe(root);
    expect(guest.vcpu.state.rootMmu.writeProtect).toBe((cr0 & 0x10000n) === 0n);
    guest.vcpu.writeCr0(cr0 & ~0x8000_0000n);
    expect(guest.vcpu.state.rootMmu.roots.current.page).toBe(0);
    guest.dispose();
  });
});

describe("EPT of 5 levels", () => {
  it("is used where a guest-physical address can need it", () => {
    const level = (guestPhysicalBits: number) => {
      const vm = new VirtualMachine(core(), {
        paging: "ept",
        virtualization: "vmx",
        tdpLevels: { forced: 0, max: 5 },
        hostPhysicalBits: 52,
        guestPhysicalBits,
      });
      const vcpu = vm.createVcpu(registersOf("4level", 0n));
      vcpu.enterGuest();
      const found = roleLevel(vm.page(vcpu.state.rootMmu.roots.current.page).role);
      vm.dispose();
      return found;
    };
    expect([level(48), level(49), level(52)]).toEqual([4, 5, 5]);
  });
});

describe("a two-dimensional VM", () => {
  const masks = legacyMasks({ physBits: 46, encryption: { mask: 1n << 45n, value: 1n << 45n } });
  it.each([
    ["an encryption mask over 3-level NPT", { paging: "npt", tdpLevels: { forced: 3, max: 3 }, masks }],
    ["3-level EPT", { paging: "ept", tdpLevels: { forced: 3, max: 3 } }],
    [
      "a page-modification log without accessed and dirty bits",
      { paging: "ept", pageModificationLog: true, masks: eptMasks({ physBits: 46, accessedDirty: false }) },
    ],
    ["the TDP MMU under shadow paging", { tdpMmu: true }],
    ["the TDP MMU of a 32-bit host", { paging: "npt", tdpMmu: true, tdpLevels: { forced: 3, max: 3 } }],
  ] as const)("refuses %s", (_name, config) => {
    expect(() => new VirtualMachine(core(), config)).toThrow(/expected/);
  });

  it("gives up a table of L1's that the processor itself writes, instead of emulating nothing", () => {
    const guest = new NestedNpt(4, "4level");
    guest.map(guest.root, 0x40_3000n, PAGE);
    guest.enter();
    guest.touch(0x40_3000n, Access.Read | Access.User);
    guest.exit();
    expect(guest.touch(guest.root, Access.Read | Access.User)).toBe(guest.root >> 12n);
    const outcome = guest.vcpu.pageFault(guest.root, 7, { guestTable: true });
    expect(outcome).toEqual({ result: "emulate", unprotected: true });
    expect(guest.touch(guest.root, Access.Write | Access.User)).toBe(guest.root >> 12n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe.each(["npt", "ept", "ept without A/D", "ept with PML"] as const)("the dirty log under %s", (kind) => {
  const make = () =>
    kind === "npt"
      ? new NestedNpt(4, "4level")
      : new NestedEpt({
          masks: eptMasks({ physBits: 46, accessedDirty: kind !== "ept without A/D" }),
          pageModificationLog: kind === "ept with PML",
        });

  /** A write as the processor makes it: it sets D, and logs the page where it does that. */
  function write(guest: NestedNpt | NestedEpt, gpa: bigint): void {
    guest.touch(gpa, Access.Write | Access.User);
    const dirty = kind === "npt" ? 0x40n : 0x200n;
    const gfn = gpa >> 12n;
    const page = guest.vm.pages().find((one) => roleLevel(one.role) === 1 && one.gfn === (gfn & ~511n))!;
    if (kind !== "ept without A/D") guest.vm.setHardwareBits(page, Number(gfn & 511n), dirty);
  }

  it("loses no page while writes go on between get and clear", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 0, max: 7 })), { maxLength: 60 }),
        (ops) => {
          const guest = make();
          for (let i = 0; i < 8; i++) guest.touch(PAGE + (BigInt(i * 8) << 12n), Access.Read | Access.User);
          const slot = { id: 0, gpa: 0n, size: 1024 * 4096, ram: guest.ram, hva: 0x7f00_0000_0000n };
          guest.vm.setSlot({ ...slot, logDirty: true });
          const truth = new Set<number>();
          for (const [page, what] of ops) {
            if (what === 0) {
              const got = new Set(guest.vm.getDirtyLog(0));
              for (const one of truth) expect(got.has(one)).toBe(true);
              truth.clear();
            } else if (what === 1) guest.touch(PAGE + (BigInt(page) << 12n), Access.Read | Access.User);
            else {
              write(guest, PAGE + (BigInt(page) << 12n));
              truth.add(Number(GFN) + page);
            }
          }
          const got = new Set(guest.vm.getDirtyLog(0));
          for (const one of truth) expect(got.has(one)).toBe(true);
          expect(guest.vm.audit()).toEqual([]);
          guest.dispose();
        },
      ),
      { numRuns: 25, seed: 5 },
    );
  });

  it("gets a page from the processor only where that sets D, and it was clear", () => {
    const guest = make();
    guest.vm.setSlot({ id: 0, gpa: 0n, size: 1024 * 4096, ram: guest.ram, hva: 0x7f00_0000_0000n, logDirty: true });
    write(guest, PAGE);
    expect(guest.vm.getDirtyLog(0)).toEqual([Number(GFN)]);
    const page = guest.vm.pages().find((one) => roleLevel(one.role) === 1 && one.gfn === (GFN & ~511n))!;
    const [accessed, dirty] = kind === "npt" ? [0x20n, 0x40n] : [0x100n, 0x200n];
    const logs = kind === "ept with PML" ? [Number(GFN)] : [];
    if (kind === "ept without A/D") return guest.dispose();
    const set = (bits: bigint) => {
      guest.vm.setHardwareBits(page, Number(GFN & 511n), bits);
      return guest.vm.state.slots.find(0, 0)!.core.dirtyWord(Math.floor(Number(GFN) / 64)) !== 0n;
    };
    expect([set(accessed), set(dirty)]).toEqual([false, logs.length > 0]);
    // Without D being cleared in between the log has the page no second time.
    guest.vm.state.slots.find(0, 0)!.core.setDirtyWord(Math.floor(Number(GFN) / 64), 0n);
    expect(set(dirty)).toBe(false);
    guest.dispose();
  });

  it("reports nothing once it was read and nobody wrote", () => {
    const guest = make();
    write(guest, PAGE);
    guest.vm.setSlot({ id: 0, gpa: 0n, size: 1024 * 4096, ram: guest.ram, hva: 0x7f00_0000_0000n, logDirty: true });
    expect(guest.vm.getDirtyLog(0)).toEqual([]);
    write(guest, PAGE);
    expect(guest.vm.getDirtyLog(0)).toEqual([Number(GFN)]);
    expect(guest.vm.getDirtyLog(0)).toEqual([]);
    guest.dispose();
  });
});

it.each([
  [8, 8],
  [5, 1],
])("maps the neighbours of a page ahead where all of them lie in its slot (of %i pages: %i)", (pages, mapped) => {
  const vm = new VirtualMachine(core(), { paging: "npt" });
  const slot = (id: number, first: number, count: number) =>
    vm.setSlot({ id, gpa: BigInt(first) << 12n, size: count * 4096, ram: vm.createRam(count * 4096) });
  slot(0, 0, pages);
  slot(1, pages, 16);
  const vcpu = vm.createVcpu({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n });
  vcpu.enterGuest();
  expect(vcpu.pageFault(0n, 6).result).toBe("fixed");
  const leaves = vm.pages().flatMap((page) => (roleLevel(page.role) === 1 ? [...page.entries.values()] : []));
  expect(leaves.filter((spte) => spte & 0x800n)).toHaveLength(mapped);
  expect(vm.audit()).toEqual([]);
  vm.dispose();
});
