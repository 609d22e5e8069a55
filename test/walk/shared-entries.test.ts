/** One entry that a single access uses in two roles: neither role's accessed and dirty bits may be lost. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import {
  A,
  CR0,
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
  longMode,
  mapped,
  P,
  PAGE,
  PD,
  PML4,
  PT,
  RWX,
  ram,
  U,
  W,
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
