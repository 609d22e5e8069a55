/** The audit: it names each invariant where that is broken, and finds nothing wrong elsewhere. */
import { describe, expect, it } from "vitest";
import { DescRecord, MemslotRecord } from "../../src/core/records/mmu.js";
import { Access } from "../../src/index.js";
import { type SecondStage, type ShadowPage, VirtualMachine } from "../../src/mmu/index.js";
import { roleIsPaeRoot, roleLevel } from "../../src/role/index.js";
import { bytesOf, core, Guest, HIGH_SLOT, type Mode, registersOf } from "./guest.js";
import { NestedNpt } from "./nested-guest.js";

const GVA = 0x40_3000n;
const PAGE = 0x20_0000n;

function started(mode: Mode = "4level") {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  const leaf = guest.map(root, GVA, PAGE);
  guest.map(root, 0x10_0000n, leaf & ~0xfffn);
  guest.start(mode, root);
  guest.access(GVA, Access.Write);
  const level = (n: number): ShadowPage => guest.vm.pages().find((page) => roleLevel(page.role) === n)!;
  const spte = (page: ShadowPage, index: number) => page.table / 8 + index;
  const { core: mmu } = guest.vm.state;
  const header = (page: ShadowPage) => mmu.pages.header(page.pointer);
  return { guest, leaf, root, level, spte, header, mmu, linear: mmu.internals.linear };
}

type Setup = ReturnType<typeof started>;

/** Each invariant, broken on purpose; the audit must name it. */
const BREAKS: readonly [invariant: string, what: string, mode: Mode, act: (setup: Setup) => void][] = [
  [
    "rmap",
    "a leaf appears without an rmap entry",
    "4level",
    ({ level, spte, linear }) => {
      const page = level(1);
      linear.u64[spte(page, 9)] = page.entries.get(3)!;
    },
  ],
  [
    "rmap",
    "a leaf disappears from the table only",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(1), 3)] = 0n;
    },
  ],
  [
    "parents",
    "a table entry is overwritten",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(3), 0)] = 0n;
    },
  ],
  [
    "parents",
    "an entry points to a page of another level",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(3), 5)] = BigInt(level(1).table) | (1n << 32n) | 0x827n;
    },
  ],
  [
    "parents",
    "an entry points to no page",
    "4level",
    ({ guest, level, spte, linear }) => {
      linear.u64[spte(level(3), 5)] = BigInt(guest.ram) | (1n << 32n) | 0x827n;
    },
  ],
  [
    "write-protection",
    "a leaf that maps a shadowed table becomes writable",
    "4level",
    ({ guest, root, spte, linear }) => {
      guest.map(root, 0x10_1000n, root);
      guest.access(0x10_1000n, Access.Read);
      const page = guest.vm.pages().find((one) => roleLevel(one.role) === 1 && one.entries.has(0x101))!;
      linear.u64[spte(page, 0x101)]! |= 0x402n;
    },
  ],
  [
    "write-track count",
    "a count is wrong",
    "4level",
    ({ guest, root, linear }) => {
      const slot = guest.vm.state.slots.slots[0]!;
      const { track } = new MemslotRecord(linear, slot.core.at);
      linear.u16[track / 2 + Number(root >> 12n)] = 0;
    },
  ],
  [
    "large-page count",
    "a count is wrong",
    "4level",
    ({ guest, linear }) => {
      const slot = guest.vm.state.slots.slots[0]!;
      linear.u32[new MemslotRecord(linear, slot.core.at).lpage(0) >>> 2]! += 1;
    },
  ],
  [
    "unsync",
    "a page is unsync and its parents do not know",
    "4level",
    ({ level, header }) => {
      header(level(1)).unsync = 1;
    },
  ],
  [
    "unsync",
    "a count does not match the bits",
    "4level",
    ({ level, header }) => {
      header(level(2)).unsyncChildren = 1;
    },
  ],
  [
    "unsync",
    "an upper-level page is unsync",
    "4level",
    ({ level, header }) => {
      header(level(3)).unsync = 1;
    },
  ],
  [
    "hash",
    "a page is not in the hash",
    "4level",
    ({ guest, level }) => guest.vm.state.pages.forgetName(level(1).pointer),
  ],
  [
    "chain",
    "a page is not among those of its gfn",
    "4level",
    ({ level, header }) => {
      header(level(1)).gfn = 0x3fffn;
    },
  ],
  [
    "used pages",
    "the count is wrong",
    "4level",
    ({ mmu }) => {
      mmu.vm.used = 99;
    },
  ],
  [
    "indirect pages",
    "the count is wrong",
    "4level",
    ({ mmu }) => {
      mmu.vm.indirect = 99;
    },
  ],
  [
    "root count",
    "a root is counted twice",
    "4level",
    ({ level, header }) => {
      header(level(4)).rootCount = 2;
    },
  ],
  [
    "role",
    "a page at the guest's level is promoted",
    "4level",
    ({ level, header }) => {
      header(level(2)).role |= 1 << 18;
    },
  ],
  [
    "role",
    "pae_root below level 3",
    "4level",
    ({ level, header }) => {
      header(level(2)).role |= 1 << 19;
    },
  ],
  [
    "role",
    "a guest level above the page's own",
    "4level",
    ({ level, header }) => {
      header(level(1)).role |= 3 << 20;
    },
  ],
  [
    "role",
    "a quadrant without 4-byte entries",
    "4level",
    ({ level, header }) => {
      header(level(1)).role |= 1 << 5;
    },
  ],
  [
    "spte",
    "MMU-writable without host-writable",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(1), 3)]! &= ~0x200n;
    },
  ],
  [
    "spte",
    "writable without MMU-writable",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(1), 3)]! &= ~0x400n;
    },
  ],
  [
    "spte",
    "an address beyond the host's",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(1), 3)]! |= 1n << 50n;
    },
  ],
  [
    "spte",
    "a table entry has a reserved bit",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(4), 0)]! |= 0x100n;
    },
  ],
  [
    "spte",
    "a leaf leads to another frame than the host's",
    "4level",
    ({ level, spte, linear }) => {
      linear.u64[spte(level(1), 3)]! += 0x1000n;
    },
  ],
  [
    "spte",
    "an assertion of the core failed",
    "4level",
    ({ mmu }) => {
      mmu.vm.broken = 1;
    },
  ],
  [
    "pae_root",
    "a PDPTE is writable",
    "pae",
    ({ guest, spte, linear }) => {
      const root = guest.vm.pages().find((page) => roleIsPaeRoot(page.role))!;
      linear.u64[spte(root, 0)]! |= 2n;
    },
  ],
  [
    "pae_root",
    "a fifth entry",
    "pae",
    ({ guest, spte, linear }) => {
      const root = guest.vm.pages().find((page) => roleIsPaeRoot(page.role))!;
      linear.u64[spte(root, 4)] = 1n;
    },
  ],
  [
    "descriptors",
    "a free block is lost",
    "4level",
    ({ mmu, linear }) => {
      mmu.vm.descFree = new DescRecord(linear, mmu.vm.descFree).more;
    },
  ],
  [
    "page map",
    "a table leads to another header",
    "4level",
    ({ level, mmu, linear }) => {
      linear.u32[(mmu.vm.pageMap >>> 2) + (level(1).table >>> 12)] = level(2).pointer;
    },
  ],
];

describe("the audit", () => {
  it.each(["nopg", "32", "pae", "4level", "5level"] as const)("finds nothing in a %s guest", (mode) => {
    const { guest } = started(mode);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each(BREAKS)("names %s when %s", (invariant, _what, mode, act) => {
    const setup = started(mode);
    expect(setup.guest.vm.audit()).toEqual([]);
    act(setup);
    const problems = setup.guest.vm.audit();
    expect(problems.map((problem) => problem.invariant)).toContain(invariant);
    for (const problem of problems) expect(problem.message).not.toBe("");
  });

  it.each([-1, 1])("names each counter that is %i off", (off) => {
    const counters: readonly [invariant: string, where: (setup: Setup) => [object, string]][] = [
      ["used pages", ({ mmu }) => [mmu.vm, "used"]],
      ["indirect pages", ({ mmu }) => [mmu.vm, "indirect"]],
      ["descriptors", ({ mmu }) => [mmu.vm, "descCount"]],
      ["root count", ({ level, header }) => [header(level(4)), "rootCount"]],
      ["root count", ({ level, header }) => [header(level(4)), "current"]],
      ["unsync", ({ level, header }) => [header(level(2)), "unsyncChildren"]],
      [
        "write-track count",
        ({ guest, root, linear }) => {
          const { track } = new MemslotRecord(linear, guest.vm.state.slots.slots[0]!.core.at);
          return [linear.u16, `${track / 2 + Number(root >> 12n)}`];
        },
      ],
      [
        "large-page count",
        ({ guest, linear }) => {
          const { core: slot } = guest.vm.state.slots.slots[0]!;
          return [linear.u32, `${new MemslotRecord(linear, slot.at).lpage(0) >>> 2}`];
        },
      ],
    ];
    const setup = started();
    const { guest } = setup;
    for (const [invariant, where] of counters) {
      const [holder, name] = where(setup);
      const values = holder as Record<string, number>;
      const before = values[name]!;
      if (before + off < 0) continue;
      values[name] = before + off;
      expect(
        guest.vm.audit().map((problem) => problem.invariant),
        `${invariant} ${name}`,
      ).toContain(invariant);
      values[name] = before;
      expect(guest.vm.audit()).toEqual([]);
    }
    guest.dispose();
  });

  it("names the page and the entry", () => {
    const { guest, level, spte, linear } = started();
    const page = level(1);
    linear.u64[spte(page, 3)]! &= ~0x400n;
    expect(guest.vm.audit()).toContainEqual(
      expect.objectContaining({
        invariant: "spte",
        page: page.pointer,
        index: 3,
        message: expect.stringContaining("entry 3"),
      }),
    );
  });
});

/** A host of large pages. */
const LARGE_HOST = {
  pin: (hva: bigint) => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0x3ffn), writable: true, level: 2 }),
  peek: () => undefined,
};
const HVA = 0x7f40_0000_0000n;
const MIB = 1 << 20;

describe.each([
  ["npt", false],
  ["npt", true],
  ["ept", false],
  ["ept", true],
] as const)("the audit of direct tables (%s, TDP MMU: %s)", (paging, tdpMmu) => {
  function mapped() {
    const vm = new VirtualMachine(core(), { paging, tdpMmu, hostMemory: LARGE_HOST });
    vm.setSlot({ id: 0, gpa: 0n, size: 4 * MIB, ram: vm.createRam(4 * MIB), hva: HVA });
    const vcpu = vm.createVcpu({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n });
    vcpu.enterGuest();
    vcpu.pageFault(0x20_5000n, 6);
    vcpu.pageFault(0x9000_5000n, 4);
    expect(vm.audit()).toEqual([]);
    const page = (level: number, index: number) =>
      vm.allPages().find(({ role, entries }) => roleLevel(role) === level && entries.has(index))!;
    return { vm, leaf: page(2, 1).table / 8 + 1, mmio: page(1, 5).table / 8 + 5 };
  }

  it.each([
    ["a misaligned huge leaf", "has reserved bits", 0x7000n],
    ["a huge leaf to another frame", "leads to frame", 0x20_0000n],
  ])("names %s", (_what, message, change) => {
    const { vm, leaf } = mapped();
    vm.state.core.internals.linear.u64[leaf]! += change;
    const found = vm.audit();
    expect(found.map(({ invariant }) => invariant)).toContain("spte");
    expect(found.some((one) => one.message.includes(message))).toBe(true);
    vm.dispose();
  });

  it("names a leaf that maps more than its slot", () => {
    const { vm, leaf } = mapped();
    // One page is moved from the second block to a slot of its own behind the first.
    const slot = vm.state.slots.slots[0]! as { pages: number };
    slot.pages -= 1;
    expect(vm.audit().some((one) => one.message.includes("maps more than its slot"))).toBe(true);
    slot.pages += 1;
    expect(vm.state.core.internals.linear.u64[leaf]).not.toBe(0n);
    vm.dispose();
  });

  it("names an MMIO entry that stands at another gfn's place", () => {
    const { vm, mmio } = mapped();
    vm.state.core.internals.linear.u64[mmio]! += 0x1000n;
    expect(vm.audit().some((one) => one.message.includes("is an MMIO entry of gfn"))).toBe(true);
    vm.dispose();
  });
});

it("the audit of EPT names a bad memory type and bad rights", () => {
  for (const change of [1n << 3n, 1n]) {
    const vm = new VirtualMachine(core(), { paging: "ept" });
    vm.setSlot({ id: 0, gpa: 0n, size: MIB, ram: vm.createRam(MIB) });
    const vcpu = vm.createVcpu({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n });
    vcpu.enterGuest();
    vcpu.pageFault(0x5000n, 6);
    const { table } = vm.allPages().find(({ role }) => roleLevel(role) === 1)!;
    vm.state.core.internals.linear.u64[table / 8 + 5]! ^= change;
    expect(vm.audit().some((one) => one.message.includes("bad memory type or bad rights"))).toBe(true);
    vm.dispose();
  }
});

describe("the audit finds nothing wrong", () => {
  it.each([
    ["one GiB", 0n, 2 * MIB, 4 * MIB, 4 * MIB],
    ["a block of 2 MiB", 0n, MIB, MIB, 3 * MIB],
  ])("with two slots in %s and a table in the second", (_what, first, size, second, secondSize) => {
    const vm = new VirtualMachine(core(), {});
    vm.setSlot({ id: 0, gpa: first, size, ram: vm.createRam(size), hva: HVA });
    vm.setSlot({
      id: 1,
      gpa: BigInt(second),
      size: secondSize,
      ram: vm.createRam(secondSize),
      hva: HVA + BigInt(second),
    });
    const root = BigInt(second);
    const entries = [1n, 2n, 3n].map((i) => [root + 0x1000n * (i - 1n), (root + 0x1000n * i) | 7n] as const);
    for (const [at, entry] of [...entries, [root + 0x3000n, 0x5067n] as const]) {
      vm.writeGuest(at, bytesOf(entry, 8));
    }
    const vcpu = vm.createVcpu(registersOf("4level", root));
    vcpu.enterGuest();
    expect(vcpu.pageFault(0n, 2).result).toBe("fixed");
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  it.each([false, true])("under the NX-huge-page mitigation with an L1 whose NPT has no NX (TDP MMU: %s)", (tdpMmu) => {
    const guest = new NestedNpt(4, "4level", { nxHugePages: true, tdpMmu, hostMemory: LARGE_HOST });
    const stage = { ...guest.stage, hostEfer: 0x500n } as SecondStage;
    guest.map(guest.root, 0x4000_0000n, HIGH_SLOT, undefined, 2);
    guest.enter(undefined, stage);
    expect(guest.vcpu.pageFault(0x4000_5000n, 6).result).toBe("fixed");
    const leaf = guest.vm
      .pages()
      .flatMap(({ entries }) => [...entries.values()])
      .find((one) => one & 0x80n && one & 2n);
    expect(leaf! >> 63n).toBe(1n);
    expect(guest.vm.audit()).toEqual([]);
    expect(guest.vm.counter("BROKEN")).toBe(0);
    guest.dispose();
  });
});
