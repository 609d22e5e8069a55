/** The first level of the software TLB, which the host compares by itself; tlb.test.ts has the rules of both levels. */
import { describe, expect, it } from "vitest";
import { ACCESS, Access, LINE, maskOf } from "../../src/abi/index.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { type Core, type CoreMemory, type CoreSpace, loadSync } from "../../src/core/index.js";
import { SpaceRecord } from "../../src/core/records/walk.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, tlbEntries: 64 };
const NARROW = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x10, efer: 0, tlbEntries: 64 };
const ALL = 0x67n; // P, RW, US, A, D
const KINDS = [0, Access.Write, Access.Fetch].flatMap((kind) =>
  [0, Access.User, Access.Ac, Access.User | Access.Ac].map((mode) => kind | mode),
);

/** Four-level tables whose every root entry leads to the same level-1 table; page n of each lies at frame 0x100 + n. */
function longGuest(core: Core): CoreMemory {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
  for (let index = 0; index < 512; index++) {
    memory.writeU64(0x1000 + 8 * index, 0x2000n | ALL);
    memory.writeU64(0x2000 + 8 * index, 0x3000n | ALL);
    memory.writeU64(0x3000 + 8 * index, 0x4000n | ALL);
    memory.writeU64(0x4000 + 8 * index, (BigInt(0x100 + index) << 12n) | ALL);
  }
  return memory;
}

const fast = (space: CoreSpace, address: bigint, access: number = Access.Read) =>
  space.translateFast(Number(address >> 32n), Number(address & 0xffffffffn), access);

/** Makes every entry of the second level invalid: what is found afterwards is found in the first. */
function emptySecondLevel(core: Core, space: CoreSpace): void {
  const { linear } = core.internals();
  const { tlb, tlbLines } = new SpaceRecord(linear, space.pointer);
  linear.u8.fill(0, tlb, tlbLines);
}

function guest(config: Partial<AddressSpaceConfig> = {}) {
  const core = loadSync();
  const memory = longGuest(core);
  return { core, memory, space: core.createAddressSpace(memory, { ...LONG, ...config }) };
}

describe("the lines of the software TLB", () => {
  it("are found by the host where the core put them, for every page and kind of access", () => {
    const { core, memory, space } = guest();
    for (let index = 0n; index < 64n; index++) {
      const high = [0n, 1n, 0x7fffn, 0xffff8000n, 0xffffffffn, index * 37n][Number(index % 6n)]!;
      const address = (high << 32n) | (index << 21n) | ((index * 11n) << 12n) | 0x18n;
      for (const kind of KINDS) {
        const before = fast(space, address, kind);
        expect(before % 4096).toBe(0x18);
        emptySecondLevel(core, space);
        memory.writeU64(0x1000n + 8n * ((address >> 39n) & 511n), 0n);
        expect(fast(space, address, kind)).toBe(before);
        memory.writeU64(0x1000n + 8n * ((address >> 39n) & 511n), 0x2000n | ALL);
      }
    }
  });

  it("tell addresses apart in every bit", () => {
    const { space } = guest({ tlbEntries: 16 });
    const base = 0x123456789000n & 0x7fffffffffffn;
    fast(space, base);
    for (let bit = 12n; bit < 64n; bit++) {
      const address = base ^ (1n << bit);
      const wanted = space.translate(address, Access.Probe);
      expect(fast(space, address)).toBe(wanted.ok ? Number(wanted.pa) : -1 - (2 << 16));
      fast(space, base);
    }
  });

  it("tell accesses apart: what was allowed for one is checked for another", () => {
    const { memory, space } = guest({ cr4: 0x300020 });
    memory.writeU64(0x4000, 0x100067n & ~2n);
    expect(fast(space, 0n, Access.User)).toBe(0x100000);
    expect(fast(space, 0n, Access.User | Access.Write)).toBeLessThan(0);
    expect(fast(space, 0n, Access.Ac)).toBe(0x100000);
    expect(fast(space, 0n, Access.Read)).toBeLessThan(0);
    expect(fast(space, 0n, Access.Fetch)).toBeLessThan(0);
    expect(fast(space, 0n, Access.User | Access.Fetch)).toBe(0x100000);
  });

  it("never serve implicit accesses and probes", () => {
    const { memory, space } = guest();
    for (const kind of KINDS) fast(space, 0n, kind);
    memory.writeU64(0x4000, 0x200000n | ALL);
    expect(fast(space, 0n, Access.Implicit)).toBe(0x200000);
    expect(fast(space, 0x1000n, Access.Implicit)).toBe(0x101000);
    const probed = fast(space, 0x2000n, Access.Probe);
    memory.writeU64(0x4010, 0x300000n | ALL);
    expect([probed, fast(space, 0x2000n, Access.Probe)]).toEqual([0x102000, 0x300000]);
  });

  it.each([16, 64, 4096])("never serve shadow-stack accesses, and none makes a line (%i entries)", (tlbEntries) => {
    const { ShadowStack, Write, User } = Access;
    const { memory, space } = guest({ tlbEntries });
    const shadow = [0, Write, User, Write | User].map((kind) => ShadowStack | kind);
    const answer = (address: bigint, access: number) => {
      const result = space.translate(address, access | Access.Probe);
      return result.ok ? Number(result.pa) : -1 - ((result.status << 16) | Number(result.errorCode));
    };
    // A supervisor's stack at page 0, a user's at page 1, others around them.
    memory.writeU64(0x4000, (0x100n << 12n) | 0x61n);
    memory.writeU64(0x4008, (0x101n << 12n) | 0x65n);
    for (let round = 0; round < 2; round++) {
      for (let page = 0n; page < 8n; page++) {
        for (const kind of [...KINDS, ...shadow]) {
          expect(fast(space, page << 12n, kind), `${page} ${kind}`).toBe(answer(page << 12n, kind));
        }
      }
    }
    expect(fast(space, 0n, ShadowStack | Write)).toBe(0x100000);
    expect(fast(space, 0x1000n, ShadowStack | User)).toBe(0x101000);
    expect(fast(space, 0n, Write)).toBe(-1 - ((1 << 16) | 3));
    // What a line or an entry has of the page is not asked.
    for (const kind of [...KINDS, ...shadow]) fast(space, 0n, kind);
    memory.writeU64(0x4000, (0x200n << 12n) | ALL);
    expect(fast(space, 0n, ShadowStack)).toBe(-1 - ((1 << 16) | 0x41));
    memory.writeU64(0x4000, (0x300n << 12n) | 0x61n);
    expect(fast(space, 0n, ShadowStack)).toBe(0x300000);
  });

  it("go with what replaces or drops their page: full walks, faults, INVLPG", () => {
    const { memory, space } = guest();
    const remap = (page: number, entry: bigint) => memory.writeU64(0x4000 + 8 * page, entry);
    for (const page of [0n, 1n, 2n]) for (const kind of KINDS) fast(space, page << 12n, kind);
    for (const page of [0, 1, 2]) remap(page, 0x200000n | ALL);
    space.translate(0x18);
    space.invlpg(0x1018);
    remap(2, 0n);
    expect(space.translate(0x2018n).ok).toBe(false);
    remap(2, 0x200000n | ALL);
    for (const page of [0n, 1n, 2n]) for (const kind of KINDS) expect(fast(space, page << 12n, kind)).toBe(0x200000);
  });

  it("of a larger page go whichever of its addresses is invalidated", () => {
    const { memory, space } = guest();
    memory.writeU64(0x3000, 0x400000n | ALL | 0x80n);
    expect([fast(space, 0x5018n), fast(space, 0x1ff018n)]).toEqual([0x405018, 0x5ff018]);
    memory.writeU64(0x3000, 0x800000n | ALL | 0x80n);
    space.invlpg(0x100000);
    expect([fast(space, 0x5018n), fast(space, 0x1ff018n)]).toEqual([0x805018, 0x9ff018]);
  });

  it("go with every register change and CR3 write, while the second level keeps what it may", () => {
    const { memory, space } = guest({ cr4: 0x20020 });
    fast(space, 0n, Access.User | Access.Write);
    memory.writeU64(0x4000, 0x200000n | ALL);
    space.update({ pkru: 4 });
    expect(fast(space, 0n, Access.User | Access.Write)).toBe(0x100000);
    space.writeCr3(0x1001n | (1n << 63n));
    expect(fast(space, 0n, Access.User | Access.Write)).toBe(0x200000);
    memory.writeU64(0x4000, 0x300000n | ALL);
    space.writeCr3(0x1001n);
    expect(fast(space, 0n, Access.User | Access.Write)).toBe(0x300000);
  });

  const PAGED = { ...LONG, cr4: 0x142_0020n, maxPhysAddr: 46 };
  it.each<[string, (space: CoreSpace) => void]>([
    ["a write to CR3", (space) => space.writeCr3(0x1001n)],
    ["one that keeps", (space) => space.writeCr3(0x1002n | (1n << 63n))],
    ["one that the host refuses", (space) => expect(() => space.writeCr3(1n << 50n)).toThrow()],
    ["an update that makes a new mode", (space) => space.update({ cr4: 0x142_00a0n })],
    ["an update that comes back to one", (space) => space.update({ cr0: LONG.cr0 })],
    ["an update of options", (space) => space.update({ maxPhysAddr: 45 })],
    ["an update that is refused", (space) => expect(() => space.update({ cr4: 0n })).toThrow()],
    [
      "an update whose PDPTEs are refused",
      (space) => expect(() => space.update({ cr4: 0x20n, efer: 0x800n })).toThrow(),
    ],
    ["an update that loads CR3", (space) => space.update({ cr3: 0x1003n })],
    ["PKRU", (space) => space.setPkru(2)],
    ["IA32_PKRS", (space) => space.setPkrs(2)],
    ["INVLPG", (space) => space.invlpg(0x1000)],
    ["INVPCID", (space) => space.invpcid(2, 0)],
    ["another slot", (space) => space.memory.addSlot({ gpa: 0x10_0000, size: 0x1000 })],
  ])("are used again after %s", (_name, act) => {
    const core = loadSync();
    const memory = longGuest(core);
    const space = core.createAddressSpace(memory, PAGED);
    for (let again = 0; again < 3; again++) fast(space, 0x5000n);
    act(space);
    // Of another page there is no line from before, under whatever tag.
    for (let again = 0; again < 3; again++) expect(fast(space, 0x6000n)).toBe(0x10_6000);
    emptySecondLevel(core, space);
    memory.writeU64(0x1000, 0n);
    expect(fast(space, 0x6000n)).toBe(0x10_6000);
  });

  it("hold frames of 31 bits, others come from the second level", () => {
    const { core, memory, space } = guest();
    for (const frame of [0x7fffffffn, 0x80000000n, 0xfffffffffn]) {
      memory.writeU64(0x4000, (frame << 12n) | ALL);
      space.invlpg(0);
      const wanted = Number((frame << 12n) | 0x18n);
      expect([fast(space, 0x18n), fast(space, 0x18n)]).toEqual([wanted, wanted]);
      emptySecondLevel(core, space);
      memory.writeU64(0x4000, 0x300000n | ALL);
      expect(fast(space, 0x18n)).toBe(frame < 0x80000000n ? wanted : 0x300018);
    }
  });

  it("are read in the memory as it is after it has grown", () => {
    const { core, memory, space } = guest();
    fast(space, 0x18n);
    core.linearMemory.grow(1);
    memory.writeU64(0x4000, 0x200000n | ALL);
    expect(fast(space, 0x18n)).toBe(0x100018);
    emptySecondLevel(core, space);
    expect(fast(space, 0x18n)).toBe(0x100018);
  });

  it("have room for bits of an access that mean nothing", () => {
    const { space } = guest();
    for (let page = 1; page < 512; page++) {
      expect(fast(space, 0n, page << 12)).toBe(0x100000);
      expect(fast(space, BigInt(page) << 12n)).toBe(0x100000 + page * 4096);
    }
    const own = LINE.fields.reduce((mask, field) => mask | maskOf(field), 0n);
    const accesses = ACCESS.fields.reduce((mask, field) => mask | maskOf(field), 0n);
    expect(own & accesses).toBe(0n);
    expect(own & 0xfffn).toBe(own);
    expect(KINDS.every((kind) => (BigInt(kind) & ~accesses) === 0n)).toBe(true);
  });
});

describe("translateFast32", () => {
  function narrowGuest(config: AddressSpaceConfig) {
    const core = loadSync();
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
    memory.writeU32(0x1000, 0x2067);
    memory.writeU32(0x1ffc, 0x2067);
    memory.writeU32(0x1004, 0xc00000e7);
    for (let page = 0; page < 1024; page++) memory.writeU32(0x2000 + 4 * page, ((page + 0x100) << 12) | 0x67);
    return { core, memory, space: core.createAddressSpace(memory, config) };
  }

  it.each([
    ["with the software TLB", 64],
    ["without", 0],
  ])("gives what translateFast gives, signed or unsigned, %s", (_, tlbEntries) => {
    const { space } = narrowGuest({ ...NARROW, tlbEntries });
    for (const address of [0, 0x3ff123, 0xffc12345, 0xfffff018, 0x456789, 0x801000]) {
      for (const kind of KINDS) {
        const wanted = space.translateFast(0, address, kind);
        for (const one of [address, address | 0]) {
          expect([space.translateFast32(one, kind), space.translateFast32(one, kind)]).toEqual([wanted, wanted]);
        }
      }
    }
  });

  it("uses the lines of 32-bit modes, and follows the mode", () => {
    const { core, memory, space } = narrowGuest(NARROW);
    expect(space.translateFast32(0x1018, 0)).toBe(0x101018);
    emptySecondLevel(core, space);
    memory.writeU32(0x2004, 0x200067);
    expect(space.translateFast32(0x1018, 0)).toBe(0x101018);
    space.update({ cr0: 1 });
    expect(space.translateFast32(0x1018, 0)).toBe(0x1018);
    space.update({ cr0: 0x80010001 });
    expect(space.translateFast32(0x1018, 0)).toBe(0x200018);
  });

  it("means addresses below 4 GiB in long mode", () => {
    const { memory, space } = guest();
    memory.writeU64(0x2000 + 8 * 3, 0x5000n | ALL);
    memory.writeU64(0x5000 + 8 * 511, 0x4000n | ALL);
    memory.writeU64(0x1000 + 8 * 511, 0n);
    for (const address of [0xffffffff, -1, 0x1018]) {
      const wanted = space.translateFast(0, address, 0);
      expect(space.translateFast32(address, 0)).toBe(wanted);
      expect(wanted).toBeGreaterThan(0);
    }
    // A line of another high half, at the same low one.
    fast(space, 0x7fff00001018n);
    memory.writeU64(0x2000, 0n);
    space.invlpg(0x1018);
    expect(space.translateFast32(0x1018, 0)).toBeLessThan(0);
  });
});
