/** One entry that a single access uses in two roles: neither role's accessed and dirty bits may be lost. */
import { describe, expect, it } from "vitest";
import { Access, Status } from "../../src/abi/index.js";
import {
  A,
  CR0,
  CR4,
  chain,
  D,
  EA,
  ED,
  EPT_PD,
  EPT_PDPT,
  EPT_PT,
  EPT_ROOT,
  EPTP_AD,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  fault,
  longMode,
  mapped,
  nptIdentity,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PML5,
  PT,
  RWX,
  ram,
  U,
  W,
  WB,
} from "./build.js";

describe("an entry that serves two stages gets the flags of both", () => {
  // Bits 2:0 mean the same in both formats, and the guest's A and D are memory-type and IPAT bits of an EPT leaf.
  it("where the guest's table is the EPT's: the guest's flags first", () => {
    const memory = ram();
    chain(memory);
    eptIdentity(memory);
    memory.writeU64(eptLeafOf(PAGE), PAGE | RWX);
    memory.writeU64(PD, EPT_PT | P | W | U);
    const secondStage = eptSpace(memory, { eptp: EPTP_AD });
    const space = engine.createAddressSpace(memory, longMode({ secondStage }));
    expect(mapped(space.translate(PAGE | 0x123n, Access.Write)).pa).toBe(PAGE | 0x123n);
    expect(memory.readU64(eptLeafOf(PAGE))).toBe(PAGE | RWX | A | D | EA | ED);
  });

  it("where the entry maps a guest table and is the guest's leaf: the second stage's flags first", () => {
    const memory = ram();
    chain(memory);
    eptIdentity(memory);
    memory.writeU64(eptLeafOf(PML4), PML4 | RWX);
    memory.writeU64(PD, EPT_PT | P | W | U);
    const secondStage = eptSpace(memory, { eptp: EPTP_AD });
    const space = engine.createAddressSpace(memory, longMode({ secondStage }));
    expect(mapped(space.translate(PML4, Access.Write)).pa).toBe(PML4);
    expect(memory.readU64(eptLeafOf(PML4))).toBe(PML4 | RWX | A | D | EA | ED);
  });

  it("and so where the guest's entries have 4 bytes", () => {
    const memory = ram();
    eptIdentity(memory);
    // Nothing to set above, so that no other entry's change makes the walk repeat.
    for (const table of [EPT_ROOT, EPT_PDPT, EPT_PD]) memory.writeU64(table, memory.readU64(table) | EA);
    // The guest's page directory at 0x1000 lies at 0x7000, and the entry that says so is the guest's PTE for 0x7000.
    memory.writeU64(eptLeafOf(0x1000n), 0x7000n | RWX);
    memory.writeU32(0x7000, Number(EPT_PT | P | W | U));
    const secondStage = eptSpace(memory, { eptp: EPTP_AD });
    const space = engine.createAddressSpace(memory, longMode({ cr0: CR0.base, cr4: 0n, efer: 0n, secondStage }));
    // Two of the guest's entries lie in one of the EPT's: the even one is its low half.
    expect(mapped(space.translate(0x2000, Access.Write)).pa).toBe(0x7000n);
    expect(memory.readU64(eptLeafOf(0x1000n))).toBe(0x7000n | RWX | A | D | EA | ED);
  });
});

describe("a page that is a table of both stages", () => {
  const SHARED = 0x20000n;

  /** 4-level guest tables under NPT, whose last table is also the guest's: entry n is read by both stages. */
  function both(edit: (memory: ReturnType<typeof ram>) => void = () => {}) {
    const memory = ram();
    chain(memory);
    nptIdentity(memory);
    // The guest's level-1 table is the nested one: linear page n is guest-physical page n.
    memory.writeU64(PD, EPT_PT | P | W | U);
    edit(memory);
    const secondStage = engine.createNpt(memory, { ncr3: EPT_ROOT });
    return { memory, space: engine.createAddressSpace(memory, longMode({ secondStage })) };
  }

  it("is marked by the second stage first: the guest reads what that left", () => {
    const { memory, space } = both();
    // The guest's leaf for PML4 is the nested leaf that its own walk used first, as for a write.
    expect(mapped(space.translate(PML4)).pa).toBe(PML4);
    expect(memory.readU64(eptLeafOf(PML4))).toBe(PML4 | P | W | U | A | D);
    expect(space.walk(PML4).steps.at(-1)!.entry & (A | D)).toBe(A | D);
  });

  it("keeps the guest's flags clear where the access fails after the second stage marked the entry", () => {
    const { memory, space } = both((ram) => ram.writeU64(eptLeafOf(0x60000n), 0x60000n | P | U));
    expect(fault(space.translate(0x60000n, Access.Write)).status).toBe(Status.PageFault);
    expect([PML4, PDPT, PD].map((table) => memory.readU64(table) & (A | D))).toEqual([0n, 0n, 0n]);
    expect(memory.readU64(eptLeafOf(0x60000n)) & (A | D)).toBe(0n);
  });

  it("faults for what the second stage's flag makes of it, with no flag of the guest's set", () => {
    // EPT's accessed flag is bit 8, which an AMD guest's PML4E has reserved: the EPT root is the guest's PML4.
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(EPT_ROOT, EPT_PDPT | RWX);
    const secondStage = eptSpace(memory, { eptp: EPTP_AD });
    const space = engine.createAddressSpace(
      memory,
      longMode({ cr3: EPT_ROOT, cpu: { amdReservedBit8: true }, secondStage }),
    );
    // Entry 0 serves the EPT walk of its own address, which marks it before it is read.
    expect(fault(space.translate(0))).toMatchObject({ status: Status.PageFault, errorCode: 9n, level: 4 });
    expect(memory.readU64(EPT_ROOT)).toBe(EPT_PDPT | RWX | EA);
  });

  it("is walked again where the second stage marks an entry after the guest read it", () => {
    const memory = ram();
    eptIdentity(memory);
    // The guest's PML4 at SHARED is mapped to the page of the EPT's last table: guest entry n is EPT leaf n.
    memory.writeU64(eptLeafOf(SHARED), EPT_PT | RWX | WB);
    const index = PDPT >> 12n;
    memory.writeU64(eptLeafOf(PDPT), PDPT | P | W | U);
    memory.writeU64(PDPT, PD | P | W | U);
    memory.writeU64(PD, PT | P | W | U);
    memory.writeU64(PT, PAGE | P | W | U);
    const secondStage = eptSpace(memory, { eptp: EPTP_AD });
    const at = index << 39n;
    const good = engine.createAddressSpace(memory, longMode({ cr3: SHARED, secondStage }));
    expect(mapped(good.translate(at)).pa).toBe(PAGE);
    // The leaf that maps PDPT is also the guest's PML4E: A of the guest (bit 5), A and D of EPT (bits 8 and 9).
    expect(memory.readU64(eptLeafOf(PDPT))).toBe(PDPT | P | W | U | A | EA | ED);

    // Where bit 8 is reserved in a PML4E, the second walk faults, and nothing of the guest's is marked.
    for (const table of [PDPT, PD, PT]) memory.writeU64(table, memory.readU64(table) & ~(A | D));
    memory.writeU64(eptLeafOf(PDPT), PDPT | P | W | U);
    const strict = engine.createAddressSpace(
      memory,
      longMode({ cr3: SHARED, cpu: { amdReservedBit8: true }, secondStage }),
    );
    expect(fault(strict.translate(at))).toMatchObject({ status: Status.PageFault, errorCode: 9n, level: 4 });
    expect(memory.readU64(eptLeafOf(PDPT))).toBe(PDPT | P | W | U | EA | ED);
    expect([PDPT, PD, PT].map((table) => memory.readU64(table) & (A | D))).toEqual([0n, 0n, 0n]);
  });
});

it("marks nothing of the guest's, above the entry either, where the walk that has to be repeated faults", () => {
  const memory = ram();
  eptIdentity(memory);
  // The guest's PML5E leads to a PML4 that the second stage puts where the EPT's last table is.
  const shared = 0x20000n;
  const index = PDPT >> 12n;
  memory.writeU64(PML5, shared | P | W | U);
  memory.writeU64(eptLeafOf(shared), EPT_PT | RWX | WB);
  memory.writeU64(eptLeafOf(PDPT), PDPT | P | W | U);
  memory.writeU64(PDPT, PD | P | W | U);
  memory.writeU64(PD, PT | P | W | U);
  memory.writeU64(PT, PAGE | P | W | U);
  const space = engine.createAddressSpace(
    memory,
    longMode({
      cr3: PML5,
      cr4: CR4.pae | CR4.la57,
      cpu: { amdReservedBit8: true },
      secondStage: eptSpace(memory, { eptp: EPTP_AD }),
    }),
  );
  expect(fault(space.translate(index << 39n))).toMatchObject({ status: Status.PageFault, errorCode: 9n, level: 4 });
  expect([PML5, PDPT, PD, PT].map((table) => memory.readU64(table) & (A | D))).toEqual([0n, 0n, 0n, 0n]);
});

describe("an entry that serves two levels", () => {
  it("is a table of one and the dirty leaf of the other", () => {
    const memory = ram();
    chain(memory);
    memory.writeU64(PML4 + 8n, PML4 | P | W | U);
    const space = engine.createAddressSpace(memory, longMode());
    const index = 1n;
    const self = (index << 39n) | (index << 30n) | (index << 21n) | (index << 12n);
    expect(mapped(space.translate(self, Access.Write)).pa).toBe(PML4);
    expect(memory.readU64(PML4 + 8n)).toBe(PML4 | P | W | U | A | D);
    expect(memory.readU64(PT)).toBe(PAGE | P | W | U);
  });
});
