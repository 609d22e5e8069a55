/** A space that goes on over another memory: a processor in SMM, which sees RAM that others do not. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import { type CoreMemory, loadSync } from "../../src/core/index.js";
import { ConfigError, DisposedError } from "../../src/errors.js";

const core = loadSync();
const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const SMRAM = 0xa0000;

/** RAM of 1 MiB; with `smram` its own bytes lie at 0xa0000. The tables map 0 to 2 MiB onto themselves, by entry 0 of the PML4 at 0x1000. */
function memories(tlbEntries = 0) {
  const { linear } = core.internals();
  const ram = linear.lend(0x100000, 4096);
  const own = linear.lend(0x10000, 4096);
  const low = { gpa: 0, size: SMRAM, linear: ram };
  const high = { gpa: SMRAM + 0x10000, size: 0x50000, linear: ram + SMRAM + 0x10000 };
  const usual = core.createMemory({ slots: [low, { gpa: SMRAM, size: 0x10000, linear: ram + SMRAM }, high] });
  const smm = core.createMemory({ slots: [low, { gpa: SMRAM, size: 0x10000, linear: own }, high] });
  usual.write(0, new Uint8Array(0x100000));
  smm.write(SMRAM, new Uint8Array(0x10000));
  // The page directory lies where the two differ.
  usual.writeU64(0x1000, 0x2067n);
  usual.writeU64(0x2000, BigInt(SMRAM) | 0x67n);
  usual.writeU64(SMRAM, 0x0000e7n);
  smm.writeU64(SMRAM, 0x4000e7n);
  const space = core.createAddressSpace(usual, { ...LONG, ...(tlbEntries !== 0 && { tlbEntries }) });
  return { usual, smm, space };
}

describe.each([0, 64])("useMemory, with %i TLB entries", (tlbEntries) => {
  it("walks and reads what the other memory has, and back", () => {
    const { usual, smm, space } = memories(tlbEntries);
    const { fast } = space.data;
    smm.writeU32(SMRAM + 8, 0x2222);
    usual.writeU32(SMRAM + 8, 0x1111);
    for (let round = 0; round < 2; round++) {
      expect(space.memory).toBe(usual);
      expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x1234);
      expect(space.translateFast(0, SMRAM + 8, Access.Read)).toBe(SMRAM + 8);
      expect(fast.readU32(0, SMRAM + 8, Access.Read)).toBe(0x1111);
      space.useMemory(smm);
      expect(space.memory).toBe(smm);
      expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x401234);
      expect([...space.leaves()][0]!.pa).toBe(0x400000n);
      smm.writeU64(SMRAM, 0xe7n);
      space.invlpg(SMRAM);
      expect(fast.readU32(0, SMRAM + 8, Access.Read)).toBe(0x2222);
      expect(space.data.writeU32(SMRAM + 12, 7)).toEqual({ ok: true, done: 4 });
      expect(smm.readU32(SMRAM + 12)).toBe(7);
      expect(usual.readU32(SMRAM + 12)).toBe(0);
      smm.writeU64(SMRAM, 0x4000e7n);
      space.useMemory(usual);
    }
    usual.dispose();
    smm.dispose();
  });

  it("belongs to its memory of the moment", () => {
    const { usual, smm, space } = memories(tlbEntries);
    space.useMemory(smm);
    usual.dispose();
    expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x401234);
    expect(() => space.useMemory(usual)).toThrow(DisposedError);
    smm.removeSlot(SMRAM);
    expect(space.translate(0x1234).ok).toBe(false);
    smm.dispose();
    expect(() => space.translate(0)).toThrow(DisposedError);
  });
});

describe("useMemory", () => {
  it("takes first stages along, and is refused there", () => {
    const { usual, smm } = memories();
    const second = core.createNpt(usual, { ncr3: 0x1000 });
    const space = core.createAddressSpace(usual, { cr0: 1, cr3: 0, cr4: 0, efer: 0, secondStage: second });
    expect(space.translate(0x1234)).toMatchObject({ pa: 0x1234n });
    expect(() => space.useMemory(smm)).toThrow(ConfigError);
    second.useMemory(smm);
    expect(space.memory).toBe(smm);
    expect(space.translate(0x1234)).toMatchObject({ pa: 0x401234n });
    usual.dispose();
    expect(second.mode).toBe("4level");
    expect(space.translate(0x1234)).toMatchObject({ pa: 0x401234n });
    smm.dispose();
    expect(() => space.translate(0)).toThrow(DisposedError);
  });

  it("refuses memories of another core, and what is none", () => {
    const { space } = memories();
    const other = loadSync().createMemory({ slots: [{ gpa: 0, size: 4096 }] });
    for (const wrong of [other, undefined, {}, 7])
      expect(() => space.useMemory(wrong as CoreMemory)).toThrow(ConfigError);
    expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x1234);
  });

  it("writes where the space leads in the end, though the source gives it another memory meanwhile", () => {
    const { smm } = memories();
    smm.writeU64(SMRAM, 0xe7n);
    const tables: Record<string, bigint> = { 1: 0x2067n, 2: 0x3067n, 3: 0xe7n };
    const lazy = core.createMemory({
      slots: [{ gpa: 0x10000, size: 0x10000 }],
      source: {
        readPage(gfn, into) {
          if (gfn === 3n) space.useMemory(smm);
          new DataView(into.buffer).setBigUint64(0, tables[String(gfn)] ?? 0n, true);
          return true;
        },
      },
    });
    const space = core.createAddressSpace(lazy, LONG);
    expect(space.data.write(0x10000, Uint8Array.of(1, 2, 3))).toEqual({ ok: true, done: 3 });
    expect([...smm.read(0x10000, 3)]).toEqual([1, 2, 3]);
    expect([...lazy.read(0x10000, 3)]).toEqual([0, 0, 0]);
  });

  it("ends a listing that is under way", () => {
    const { smm, space } = memories();
    const listing = space.leaves();
    listing.next();
    space.useMemory(smm);
    expect(() => listing.next()).toThrow("another memory");
  });
});
