/** Listing more leaves than an engine lists in one go. */
import { describe, expect, it } from "vitest";
import { chain, engine, longMode, P, PD, PT, ram, U, W } from "./build.js";

/** More than any engine lists in one go. */
const TABLES = 5n;

describe("leaves()", () => {
  it("lists every entry of full tables once, first and last included, however many there are", () => {
    const memory = ram();
    chain(memory);
    for (let table = 0n; table < TABLES; table++) {
      const at = PT + 0x10000n + (table << 12n);
      memory.writeU64(PD + 8n * table, at | P | W | U);
      for (let index = 0n; index < 512n; index++) memory.writeU64(at + 8n * index, ((table * 512n + index) << 12n) | P);
    }
    const leaves = [...engine.createAddressSpace(memory, longMode()).leaves()];
    expect(leaves.map((leaf) => leaf.va)).toEqual(
      Array.from({ length: 512 * Number(TABLES) }, (_, n) => BigInt(n) << 12n),
    );
    expect(leaves.every((leaf) => leaf.pa === leaf.va && leaf.size === 4096n)).toBe(true);
  });

  it("gives back the last entry of the last table of each level", () => {
    const memory = ram();
    for (let level = 0n; level < 4n; level++) memory.writeU64(0x1ff8n + (level << 12n), ((level + 2n) << 12n) | P | W);
    const leaves = [...engine.createAddressSpace(memory, longMode()).leaves()];
    expect(leaves.map(({ va, pa }) => [va, pa])).toEqual([[0xfffffffffffff000n, 0x5000n]]);
  });
});
