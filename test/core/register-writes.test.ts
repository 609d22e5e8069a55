/**
 * Register writes that the core does by itself (CR3, modes that a space was in before, protection keys) against spaces that
 * are made with the registers as they are then.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access, bitOf, CR3, CR4 } from "../../src/abi/index.js";
import type { AddressSpaceConfig, Translation } from "../../src/api.js";
import { type CoreMemory, type CoreSpace, loadSync } from "../../src/core/index.js";
import { PagingError } from "../../src/errors.js";
import { createReference } from "../../src/reference/index.js";

const core = loadSync();
const reference = createReference();
const ALL = 0x67n;
const NO_FLUSH = bitOf(CR3, "NOFLUSH");
const cr4 = (...names: string[]) => names.reduce((value, name) => value | bitOf(CR4, name), 0n);

/** Where the roots lie; the last in no slot. PAE's page-directory-pointer tables are in the same pages. */
const ROOTS = [0x1000n, 0x2000n, 0x3020n, 0x9000n] as const;
const USER = 4n;
const KEY = 1n << 59n;

/** Tables that say something else in each mode and under each root, with user, supervisor and keyed pages. */
function fill(memory: { writeU64(gpa: bigint, value: bigint): void }): void {
  ROOTS.slice(0, 3).forEach((root, i) => {
    const table = BigInt(0x4000 + i * 0x1000);
    for (let index = 0; index < 4; index++) {
      // PDPTEs have reserved bits where other entries grant rights: only those of one root can be loaded.
      memory.writeU64(root + BigInt(8 * index), table | (root === 0x3020n ? 1n : ALL));
    }
    for (let index = 0; index < 512; index++) {
      const leads = index < 4 ? table : BigInt(index + 16 * i) << 12n;
      const user = index % 3 === 0 ? 0n : USER;
      const key = index % 5 === 0 ? KEY : 0n;
      const far = index === 7 ? 1n << 41n : 0n;
      memory.writeU64(table + BigInt(8 * index), far | leads | (ALL & ~USER) | user | (index < 4 ? USER : key));
    }
  });
}

const LONG = { cr0: 0x80010001n, cr3: ROOTS[0], cr4: cr4("PAE"), efer: 0xd00n } as const;
const MODES: readonly Partial<AddressSpaceConfig>[] = [
  { cr0: 0x80010001n, cr4: cr4("PAE"), efer: 0xd00n },
  { cr0: 0x80000001n, cr4: cr4("PAE", "PKE"), efer: 0xd00n },
  { cr0: 0x80010001n, cr4: cr4("PAE", "PCIDE", "SMEP"), efer: 0xd00n },
  { cr0: 0x80010001n, cr4: cr4("PAE", "PCIDE", "PKE", "PKS", "SMAP"), efer: 0xd00n },
  { cr0: 0x80010001n, cr4: cr4("PAE", "LAM_SUP"), efer: 0xd00n },
  { cr0: 0x80010001n, cr4: cr4("PAE", "LA57"), efer: 0xd00n },
  { cr0: 0x80010001n, cr4: cr4("PAE"), efer: 0x500n },
  { cr0: 0x80010001n, cr4: cr4("PAE"), efer: 0x800n },
  { cr0: 0x80010001n, cr4: cr4("PSE"), efer: 0n },
  { cr0: 0x80010001n, cr4: 0n, efer: 0n },
  { cr0: 1n, cr4: 0n, efer: 0n },
];
const ADDRESSES = [
  // Canonical with 57 bits, and with LAM_U48 the same as 0x5000.
  0x12_0000_0000_5000n,
  // Bit 41 is reserved with 40 physical-address bits.
  0x7000n,

  0n,
  0x5000n,
  0xa000n,
  0x3_f000n,
  0x20_3000n,
  0x4000_9000n,
  0xffff_ffff_ffff_f000n,
  0x4000_0000_0000_7000n,
];
const ACCESSES = [0, Access.User, Access.Write, Access.Write | Access.User, Access.Fetch, Access.Fetch | Access.User];

const isLong = (config: AddressSpaceConfig) => (BigInt(config.efer) & 0x400n) !== 0n;

function look(space: { translate(address: bigint, access: number): Translation }, config: AddressSpaceConfig) {
  return ADDRESSES.filter((address) => isLong(config) || address >> 32n === 0n).flatMap((address) => {
    return ACCESSES.map((access) => space.translate(address, access | Access.Probe));
  });
}

function fast(space: CoreSpace, config: AddressSpaceConfig): number[] {
  return ADDRESSES.filter((address) => isLong(config) || address >> 32n === 0n).flatMap((address) => {
    return ACCESSES.map((access) => {
      return space.translateFast(Number(address >> 32n), Number(address & 0xffff_ffffn), access | Access.Probe);
    });
  });
}

type Operation =
  | { readonly kind: "cr3"; readonly root: number; readonly low: number; readonly high: number; readonly form: number }
  | { readonly kind: "mode"; readonly mode: number }
  | { readonly kind: "options"; readonly maxPhysAddr: number; readonly lenient: boolean }
  | { readonly kind: "keys"; readonly pkru: number; readonly pkrs: number; readonly by: number };

const key = fc.constantFrom(0, 0xc, 3, 1, 2, 0x5555_5554, 0xffff_fffc);
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("cr3" as const),
      root: fc.nat(ROOTS.length - 1),
      low: fc.constantFrom(0, 0, 1, 2),
      high: fc.constantFrom(0, 0, 0, 61, 62, 63, 50),
      form: fc.nat(2),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("mode" as const),
      mode: fc.oneof(fc.nat(3), fc.nat(MODES.length - 1)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("options" as const),
      maxPhysAddr: fc.constantFrom(40, 52),
      lenient: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("keys" as const), pkru: key, pkrs: key, by: fc.nat(2) }),
  },
);

/** Does it; returns whether the processor took it. */
function write(space: CoreSpace, one: Operation): boolean {
  try {
    if (one.kind === "options") space.update({ maxPhysAddr: one.maxPhysAddr, lenient: one.lenient });
    else if (one.kind === "mode") space.update(MODES[one.mode]!);
    else if (one.kind === "keys") {
      if (one.by === 0) space.update({ pkru: one.pkru, pkrs: one.pkrs });
      else {
        space.setPkru(one.by === 1 ? one.pkru : one.pkru | 0);
        space.setPkrs(one.pkrs);
      }
    } else {
      const value = (ROOTS[one.root]! + BigInt(one.low)) | (one.high === 0 ? 0n : 1n << BigInt(one.high));
      const isSmall = value >> 32n === 0n;
      space.writeCr3(one.form === 0 || !isSmall ? value : one.form === 1 ? Number(value) : Number(value) | 0);
    }
    return true;
  } catch (error) {
    if (error instanceof PagingError) return false;
    throw error;
  }
}

function guest(config: Partial<AddressSpaceConfig> = {}): { memory: CoreMemory; space: CoreSpace } {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
  fill(memory);
  return { memory, space: core.createAddressSpace(memory, { ...LONG, ...config }) };
}

const configOf = (space: CoreSpace) => (space.configuration as { config: AddressSpaceConfig }).config;

describe.each([0, 64])("a space with a TLB of %s entries", (tlbEntries) => {
  it("is after any register writes what one made with these registers is", { timeout: 120_000 }, () => {
    const options = fc.record({
      maxPhysAddr: fc.constantFrom(40, 52),
      lenient: fc.boolean(),
      cpu: fc.record({ lam: fc.boolean() }),
      pdptes: fc.constantFrom("latched" as const, "live" as const),
      loadedBy: fc.constantFrom("mov" as const, "vm-entry" as const),
    });
    fc.assert(
      fc.property(options, fc.array(operation, { minLength: 1, maxLength: 30, size: "max" }), (chosen, operations) => {
        const { memory, space } = guest({ ...chosen, tlbEntries });
        const physical = reference.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
        fill(physical);
        for (const one of operations) {
          const before = configOf(space);
          const taken = write(space, one);
          const config = configOf(space);
          if (!taken) expect(config).toEqual(before);
          const { tlbEntries: _, ...plain } = config;
          const fresh = core.createAddressSpace(memory, plain);
          expect(space.mode).toBe(fresh.mode);
          const seen = look(fresh, config);
          expect(look(space, config)).toEqual(seen);
          expect(fast(space, config)).toEqual(fast(fresh, config));
          expect(look(reference.createAddressSpace(physical, plain), config)).toEqual(seen);
          fresh.dispose();
        }
        memory.dispose();
      }),
      { numRuns: 120 },
    );
  });
});

it("an update that names CR0 loads a PAE guest's PDPTEs again, one of PKRU does not", () => {
  const { memory, space } = guest({ cr3: ROOTS[2], efer: 0x800n });
  const found = () => space.translateFast32(0x4000, Access.Probe);
  const before = found();
  expect(before).toBeGreaterThan(0);
  memory.writeU64(ROOTS[2], 0x5001n);
  space.update({ pkru: 4 });
  expect(found()).toBe(before);
  space.update({ cr0: LONG.cr0 });
  expect(found()).not.toBe(before);
  memory.dispose();
});

it.each([
  ["linear-address masking", "LAM_SUP", "lam"],
  ["5-level paging", "LA57", "la57"],
  ["shadow stacks", "CET", "cet"],
] as const)("a mode that was seen is none for a processor without %s", (_name, bit, feature) => {
  const { memory, space } = guest({ cr4: cr4("PAE", bit) });
  const off = { cr0: 1n, efer: 0n };
  space.update({ ...off, cr4: cr4("PAE") });
  space.update({ cpu: { [feature]: false } });
  expect(() => space.update({ cr0: LONG.cr0, efer: LONG.efer, cr4: cr4("PAE", bit) })).toThrow(PagingError);
  expect(space.mode).toBe("none");
  expect(configOf(space)).toMatchObject(off);
  space.update({ cr0: LONG.cr0, efer: LONG.efer });
  if (feature === "lam") expect(() => space.writeCr3(ROOTS[0] | bitOf(CR3, "LAM_U57"))).toThrow(PagingError);
  expect(space.mode).toBe("4level");
  memory.dispose();
});

it("a write to CR3 begins and ends linear-address masking", () => {
  const { memory, space } = guest({ cr4: cr4("PAE", "LA57") });
  // Without masking the address is another page's.
  memory.writeU64(ROOTS[0] + 18n * 8n, 0x5000n | ALL);
  const tagged = 0x12_0000_0000_5000n;
  const look57 = () => space.translateFast(Number(tagged >> 32n), Number(tagged & 0xffff_ffffn), Access.Probe);
  const plain = space.translateFast(0, 0x5000, Access.Probe);
  const other = look57();
  expect(plain).toBeGreaterThan(0);
  expect(other).toBeGreaterThan(0);
  expect(other).not.toBe(plain);
  space.writeCr3(ROOTS[0] | bitOf(CR3, "LAM_U48"));
  expect(look57()).toBe(plain);
  space.writeCr3(ROOTS[0] | bitOf(CR3, "LAM_U57"));
  expect(look57()).toBe(other);
  memory.dispose();
});

describe("registers as signed integers of 32 bits", () => {
  it("mean the unsigned ones, when a space is made and when it changes", () => {
    const { space } = guest({ cr0: 0x80010001 | 0, pkru: -4 });
    expect(configOf(space)).toMatchObject({ cr0: 0x80010001, pkru: 0xffff_fffc });
    space.update({ cr0: 0x80000001 | 0 });
    expect(configOf(space).cr0).toBe(0x80000001);
    space.update({ cr0: 0x80010001 | 0 });
    space.setPkru(-1);
    expect(configOf(space)).toMatchObject({ cr0: 0x80010001, pkru: 0xffff_ffff });
  });

  it.each([
    [() => guest().space.setPkru(2 ** 32)],
    [() => guest().space.setPkru(-(2 ** 31) - 1)],
    [() => guest().space.setPkru(0.5)],
    [() => guest().space.setPkrs("1" as never)],
    [() => guest().space.writeCr3(-(2 ** 31) - 1)],
    [() => guest().space.writeCr3(1n << 64n)],
    [() => guest().space.writeCr3(-1n)],
  ])("are refused beyond their width: %s", (action) => {
    expect(action).toThrow(RangeError);
  });
});

describe("names in the software TLB", () => {
  const access = (space: CoreSpace, address: number) => space.translateFast(0, address, Access.Read);
  const leaf = (page: number) => BigInt(0x4000 + 8 * page);
  const map = (memory: CoreMemory, page: number, frame: number, bits = 0n) => {
    memory.writeU64(leaf(page), (BigInt(frame) << 12n) | ALL | bits);
  };

  it("run out, and nothing that a flush took away comes back", () => {
    // So large that an entry is there yet when its name is given again.
    const { memory, space } = guest({ tlbEntries: 65536 });
    for (let flush = 0; flush < 10_000; flush++) {
      map(memory, 9, 0x100 + (flush % 8));
      space.writeCr3(ROOTS[0]);
      for (let again = 0; again < 2; again++) expect(access(space, 0x9000)).toBe((0x100 + (flush % 8)) * 4096);
    }
    memory.dispose();
  });

  it.each([0, 1])("run out where a global page asks for one, and INVLPG still finds everything (%s)", (odd) => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PGE") });
    map(memory, 9, 0x100, 0x100n);
    if (odd) space.invpcid(2, 0);
    for (let flush = 0; flush < 2_100; flush++) {
      space.invpcid(2, 0);
      expect(access(space, 0x9000)).toBe(0x10_0000);
      map(memory, 10, 0x200);
      for (let again = 0; again < 2; again++) expect(access(space, 0xa000)).toBe(0x20_0000);
      map(memory, 10, 0x201);
      space.invlpg(0xa000);
      expect(access(space, 0xa000)).toBe(0x20_1000);
    }
    memory.dispose();
  });

  it("run out under global pages, which a write to CR3 does not take away", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PGE") });
    map(memory, 9, 0x100, 0x100n);
    expect(access(space, 0x9000)).toBe(0x10_0000);
    let kept = 0;
    for (let flush = 0; flush < 9_000; flush++) {
      map(memory, 10, 0x200 + (flush % 7));
      map(memory, 9, 0x101 + flush, 0x100n);
      space.writeCr3(ROOTS[0]);
      expect(access(space, 0xa000)).toBe((0x200 + (flush % 7)) * 4096);
      const found = access(space, 0x9000);
      // When the numbers begin anew everything is gone, and the page is what it is now.
      expect(found === (0x101 + flush) * 4096 || found < (0x101 + flush) * 4096).toBe(true);
      if (found < (0x101 + flush) * 4096) kept++;
    }
    expect(kept).toBeGreaterThan(8_900);
    memory.dispose();
  });

  it("run out for a large page, which INVLPG still finds whole", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
    const large = (frame: bigint) => memory.writeU64(0x3008, (frame << 21n) | ALL | 0x180n);
    memory.writeU64(0x1000, 0x2000n | ALL);
    memory.writeU64(0x2000, 0x3000n | ALL);
    large(1n);
    const space = core.createAddressSpace(memory, { ...LONG, cr4: cr4("PAE", "PGE"), tlbEntries: 64 });
    for (let flush = 0; flush < 4094; flush++) space.writeCr3(ROOTS[0]);
    for (let again = 0; again < 2; again++) expect(access(space, 0x20_0000)).toBe(0x20_0000);
    large(2n);
    space.invlpg(0x20_1000);
    expect(access(space, 0x20_0000)).toBe(0x40_0000);
    memory.dispose();
  });

  it("keep a page of two PCIDs apart, and both", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PCIDE") });
    for (const pcid of [1n, 2n]) {
      space.writeCr3(ROOTS[0] | pcid);
      for (let page = 8; page < 12; page++) {
        map(memory, page, Number(pcid) * 0x100 + page);
        expect(access(space, page * 4096)).toBe((Number(pcid) * 0x100 + page) * 4096);
      }
    }
    for (let page = 8; page < 12; page++) map(memory, page, 0x300);
    for (let round = 0; round < 3; round++) {
      for (const pcid of [1n, 2n]) {
        space.writeCr3(ROOTS[0] | pcid | NO_FLUSH);
        for (let page = 8; page < 12; page++) {
          expect(access(space, page * 4096)).toBe((Number(pcid) * 0x100 + page) * 4096);
        }
      }
    }
    // INVPCID of one leaves the other's.
    space.invpcid(1, 1);
    expect(access(space, 0x8000)).toBe(0x208 * 4096);
    space.writeCr3(ROOTS[0] | 1n | NO_FLUSH);
    expect(access(space, 0x8000)).toBe(0x300 * 4096);
    memory.dispose();
  });

  it("are those of before where an update is refused", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PCIDE"), cr3: ROOTS[0] | 5n, maxPhysAddr: 40 });
    map(memory, 9, 0x111);
    expect(access(space, 0x9000)).toBe(0x11_1000);
    map(memory, 9, 0x222);
    // PAE's tables at this CR3 have reserved bits.
    memory.writeU64(0x7000n, 0x7fff_ffff_ffff_ffffn);
    expect(() => space.update({ cr3: 0x7000n, cr4: cr4("PAE"), efer: 0x800n })).toThrow(PagingError);
    for (let again = 0; again < 2; again++) expect(access(space, 0x9000)).toBe(0x11_1000);
    for (const pcid of [0n, 2n]) {
      space.writeCr3(ROOTS[0] | pcid | NO_FLUSH);
      expect(access(space, 0x9000)).toBe(0x22_2000);
    }
    map(memory, 9, 0x333);
    space.writeCr3(ROOTS[0] | 5n | NO_FLUSH);
    expect(access(space, 0x9000)).toBe(0x11_1000);
    memory.dispose();
  });

  it("of lines are those of the keys that page 0 has now", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PKE"), pkru: 0 });
    map(memory, 8, 0x111);
    const user = () => space.translateFast(0, 0x8000, Access.User);
    for (let again = 0; again < 3; again++) expect(user()).toBe(0x11_1000);
    space.setPkru(1);
    expect(user()).toBeLessThan(0);
    space.setPkru(0xc);
    for (let again = 0; again < 3; again++) expect(user()).toBe(0x11_1000);
    space.update({ pkru: 1 });
    expect(user()).toBeLessThan(0);
    memory.dispose();
  });

  it("of every context go with a global page", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PGE", "PCIDE") });
    map(memory, 9, 0x111, 0x100n);
    for (const pcid of [1n, 2n]) {
      space.writeCr3(ROOTS[0] | pcid);
      for (let again = 0; again < 3; again++) expect(access(space, 0x9000)).toBe(0x11_1000);
    }
    map(memory, 9, 0x222, 0x100n);
    space.invlpg(0x9000);
    for (const pcid of [1n, 2n]) {
      space.writeCr3(ROOTS[0] | pcid | NO_FLUSH);
      expect(access(space, 0x9000)).toBe(0x22_2000);
    }
    memory.dispose();
  });

  it("of a page that becomes global, or is none any more, are one at a time", () => {
    const { memory, space } = guest({ tlbEntries: 64, cr4: cr4("PAE", "PGE") });
    const clean = (frame: number, bits: bigint) => {
      memory.writeU64(leaf(9), (BigInt(frame) << 12n) | (ALL & ~0x40n) | bits);
    };
    for (const [before, after] of [
      [0n, 0x100n],
      [0x100n, 0n],
    ] as const) {
      space.invlpg(0x9000);
      clean(0x111, before);
      expect(access(space, 0x9000)).toBe(0x11_1000);
      // The page is not dirty where the TLB has it: a write walks again, and what that finds takes its place.
      clean(0x222, after);
      expect(space.translateFast(0, 0x9000, Access.Write)).toBe(0x22_2000);
      expect(access(space, 0x9000)).toBe(0x22_2000);
      space.writeCr3(ROOTS[0]);
      expect(access(space, 0x9000)).toBe(0x22_2000);
    }
    memory.dispose();
  });
});
