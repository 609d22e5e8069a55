/** Listing leaves of dense and sparse level-1 tables, which the core reads with vectors. */
import { describe, expect, it } from "vitest";
import type { AddressSpaceConfig, PagingEngine } from "../../src/api.js";
import { loadSync } from "../../src/core/index.js";
import { createReference } from "../../src/reference/index.js";

const LONG: AddressSpaceConfig = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, maxPhysAddr: 40 };
const MODES: Readonly<Record<string, AddressSpaceConfig>> = {
  "4-level": LONG,
  "4-level, NXE clear": { ...LONG, efer: 0x500 },
  "4-level, encryption": { ...LONG, encryptionMask: 1n << 39n },
  "5-level": { ...LONG, cr4: 0x1020 },
  PAE: { ...LONG, efer: 0x800 },
};

/**
 * Every level points to the next at both ends; `share` of the 2048 level-1 entries are present, of these every `nth`, and
 * `strange` of them have one bit the other way round.
 */
function leavesOf(
  engine: PagingEngine,
  config: AddressSpaceConfig,
  share: number,
  strange: number,
  nth = 1,
): unknown[] {
  const memory = engine.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  const levels =
    config.efer === 0x800
      ? [0x1000, 0x2000]
      : config.cr4 === 0x1020
        ? [0x1000, 0x2000, 0x3000, 0x4000]
        : [0x1000, 0x2000, 0x3000];
  const pae = config.efer === 0x800;
  levels.slice(0, -1).forEach((table, index) => {
    const entry = BigInt(levels[index + 1]!) | (pae && index === 0 ? 1n : 7n);
    memory.writeU64(table, entry);
    if (!pae || index > 0) memory.writeU64(table + 511 * 8, entry);
  });
  const directory = levels.at(-1)!;
  for (const [index, table] of [0, 7, 16, 511].entries())
    memory.writeU64(directory + table * 8, BigInt(0x8000 + index * 0x1000) | 7n);
  memory.writeU64(directory + 40 * 8, 0x600087n);
  memory.writeU64(directory + 41 * 8, 0x602087n);
  let state = 5;
  const next = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
  for (let at = 0x8000; at < 0xc000; at += 8) {
    const odd = next() < strange ? 1n << BigInt(Math.floor(next() * 64)) : 0n;
    const present = next() < share && (at / 8) % nth === nth - 1;
    memory.writeU64(at, (((BigInt(at) << 12n) | 0x7n) ^ odd) & (present ? ~0n : ~1n) & ((1n << 64n) - 1n));
  }
  const space = engine.createAddressSpace(memory, config);
  const leaves = [...space.leaves()];
  space.dispose?.();
  memory.dispose?.();
  return leaves;
}

describe("enumeration of dense and sparse level-1 tables", () => {
  it.each(Object.entries(MODES))("gives what the reference gives: %s", (_, config) => {
    for (const share of [0, 0.01, 0.5, 0.999, 1]) {
      for (const strange of [0, 0.01, 0.2]) {
        const found = leavesOf(loadSync(), config, share, strange);
        expect(found.length).toBeGreaterThan(share * 500);
        expect(found).toEqual(leavesOf(createReference(), config, share, strange));
      }
    }
    expect(leavesOf(loadSync(), config, 1, 0, 2)).toEqual(leavesOf(createReference(), config, 1, 0, 2));
  });
});
