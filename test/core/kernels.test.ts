/** The fast walks and batch kernels against the full walk, for each of their checks. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { type CoreMemory, type CoreSpace, loadSync } from "../../src/core/index.js";

const core = loadSync();
const RAM = 1 << 20;
const HIGH = 1n << 63n;

function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Registers of each mode: what fast walks exist for, and the settings that their checks depend on. */
const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, maxPhysAddr: 40 };
const SPACES: Readonly<Record<string, AddressSpaceConfig>> = {
  "4-level": LONG,
  "4-level, supervisor access restricted": { ...LONG, cr4: 0x300020 },
  "4-level, WP clear": { ...LONG, cr0: 0x80000001 },
  "4-level, NXE clear": { ...LONG, efer: 0x500 },
  "4-level, protection keys": { ...LONG, cr4: 0x1400020, pkru: 0x55555554, pkrs: 0xc },
  "4-level, key 0 restricted": { ...LONG, cr4: 0x400020, pkru: 0x2 },
  "4-level, LAM": { ...LONG, cr3: 0x1000n | (1n << 62n), cr4: 0x10000020 },
  "4-level, LASS": { ...LONG, cr4: 0x8200020 },
  "4-level, UAI": { ...LONG, efer: 0x100d00 },
  "4-level, no 1 GiB pages": { ...LONG, cpu: { page1g: false, amdReservedBit8: true } },
  "4-level, encryption": { ...LONG, encryptionMask: 1n << 39n },
  "4-level, lenient": { ...LONG, lenient: true },
  "5-level": { ...LONG, cr4: 0x1020 },
  "5-level, LAM_U48": { ...LONG, cr3: 0x1000n | (1n << 62n), cr4: 0x1020 },
  "5-level, LASS and LAM": { ...LONG, cr3: 0x1000n | (1n << 62n), cr4: 0x8001020 },
  "5-level, UAI": { ...LONG, cr4: 0x1020, efer: 0x100d00 },
  PAE: { ...LONG, efer: 0x800 },
  "PAE, live PDPTEs": { ...LONG, efer: 0x800, pdptes: "live" },
  "32-bit": { ...LONG, cr4: 0, efer: 0 },
  "32-bit, PSE": { ...LONG, cr4: 0x10, efer: 0 },
  none: { ...LONG, cr0: 1, cr4: 0, efer: 0 },
};

/**
 * Tables at every page of low RAM, pointing at each other; mostly the common case, now and then anything else. Of the
 * pages from `large` on every entry maps a larger page, where it is read at a level that can.
 */
function fillTables(
  memory: CoreMemory,
  next: (below: number) => number,
  narrow: boolean,
  rare: number,
  large: number,
): void {
  const odd = [
    0x1n,
    0x2n,
    0x4n,
    0x20n,
    0x40n,
    0x80n,
    0x100n,
    1n << 39n,
    1n << 41n,
    1n << 60n,
    1n << 63n,
    1n << 51n,
    0x2000n,
  ];
  const step = narrow ? 4 : 8;
  for (let at = 0; at < 0x10000; at += step) {
    let entry = (BigInt(1 + next(next(64) === 0 ? 300 : 15)) << 12n) | 0x67n;
    if (at >= large) entry = (BigInt(next(3)) << 30n) | (BigInt(narrow ? 0 : next(2)) << 21n) | 0xe7n;
    if (next(rare) === 0) entry ^= odd[next(odd.length)]!;
    if (next(rare) === 0) entry ^= odd[next(odd.length)]!;
    if (narrow) memory.writeU32(at, Number(entry & 0xffffffffn));
    else memory.writeU64(at, entry);
  }
  // The root, also as PDPTEs: no rights in those.
  for (let at = 0; at < 32; at += 8)
    if (!narrow) memory.writeU64(0x8000 + at, BigInt(1 + next(8)) * 0x1000n + (next(6) === 0 ? 0n : 1n));
}

/** Addresses of one kind: all over, within a gigabyte, within one level-1 table, in a row; some of them no good. */
function pick(next: (below: number) => number, width: number, count: number, wild: boolean): BigUint64Array {
  const kind = next(4);
  const anywhere = () => {
    let address = 0n;
    for (let bits = 0; bits < width; bits += 9) address = (address << 9n) | BigInt(next(512));
    address = BigInt.asUintN(width, address);
    const signed = width > 32 ? BigInt.asUintN(64, BigInt.asIntN(width, address)) : address;
    return wild && next(50) === 0 ? signed ^ (1n << BigInt(32 + next(32))) : signed;
  };
  const base = anywhere();
  return BigUint64Array.from({ length: count }, (_, index) => {
    if (kind === 0) return anywhere();
    const size = [0, 0x40000000, 0x200000, 0][kind]!;
    const offset = kind === 3 ? index * 4096 : next(size);
    const last = wild && next(90) === 0 ? anywhere() : base;
    return (last & ~BigInt(Math.max(size - 1, 0))) + BigInt(offset);
  }).map((address) => BigInt.asUintN(width > 32 ? 64 : 32, address));
}

const ACCESSES = [0, Access.Write, Access.Fetch]
  .flatMap((kind) => [0, Access.User, Access.Ac, Access.Implicit].map((mode) => kind | mode | Access.Probe))
  .concat([Access.ShadowStack | Access.Probe, Access.ShadowStack | Access.User | Access.Write | Access.Probe]);

function expected(space: CoreSpace, address: bigint, access: number): bigint {
  const result = space.translate(address, access);
  return result.ok ? result.pa : HIGH | (BigInt(result.status) << 16n) | (result.errorCode & 0xffffn);
}

describe.each(Object.entries(SPACES))(
  "dense tables, %s: the fast walks give what the full walk gives",
  (name, config) => {
    it.each([30, 4000])("with one entry in %i out of the ordinary", (rare) => {
      const next = generator(name.length * 7 + rare);
      const narrow = name.startsWith("32-bit");
      const width = /^(PAE|32|none)/.test(name) ? 32 : name.startsWith("5") ? 57 : 48;
      let mapped = 0;
      for (let round = 0; round < 12; round++) {
        const low = next(2) === 0 ? 0 : 0x100000000;
        // Also a slot whose size is no power of two, and tables that leave it.
        const size = [RAM, 0x30000, 0x9000][next(3)]!;
        const slots =
          narrow || low === 0
            ? [{ gpa: 0, size }]
            : [
                { gpa: 0, size },
                { gpa: low, size: 0x4000 },
              ];
        if (size < RAM) slots.push({ gpa: size, size: RAM - size });
        const memory = core.createMemory({ slots });
        fillTables(memory, next, narrow, rare, round % 3 === 2 ? 0x9000 + next(4) * 0x2000 : RAM);
        const root = BigInt(config.cr3) & ~0xf000n;
        const registers = { ...config, cr3: root | 0x8000n };
        const space = core.createAddressSpace(memory, registers);
        const cached = core.createAddressSpace(memory, { ...registers, tlbEntries: 16 });
        for (const access of ACCESSES) {
          const input = pick(next, width, 4 + next(600), next(2) === 0);
          const output = new BigUint64Array(input.length);
          const wanted = Array.from(input, (address) => expected(space, address, access));
          mapped += wanted.filter((one) => one < HIGH).length;
          for (const kernel of ["auto", "scalar", "phases"] as const) {
            space.translateBatch(input, output, access, kernel);
            expect([...output]).toEqual(wanted);
          }
          for (let index = 0; index < input.length; index += 7) {
            const fast = space.translateFast(Number(input[index]! >> 32n), Number(input[index]! & 0xffffffffn), access);
            const packed = -1 - fast;
            expect(fast >= 0 ? BigInt(fast) : HIGH | BigInt(packed)).toBe(wanted[index]);
            if (input[index]! >> 32n === 0n) {
              expect(space.translateFast32(Number(input[index]! & 0xffffffffn), access)).toBe(fast);
            }
          }
        }
        // Not probes: the software TLB fills, and accessed and dirty bits are set. That leaves the results as they are, but
        // for PDPTEs that are read as a level-1 table too: these bits are reserved in them.
        const kinds = config.pdptes === "live" ? [] : ACCESSES;
        for (const access of kinds.map((probe) => probe & ~Access.Probe)) {
          for (const address of pick(next, width, 60, next(2) === 0)) {
            const wanted = expected(space, address, access);
            for (let repeat = 0; repeat < 2; repeat++) {
              const fast = cached.translateFast(Number(address >> 32n), Number(address & 0xffffffffn), access);
              expect(fast >= 0 ? BigInt(fast) : HIGH | BigInt(-1 - fast)).toBe(wanted);
            }
          }
        }
        cached.dispose();
        space.dispose();
        memory.dispose();
      }
      expect(mapped).toBeGreaterThan(1000);
    });
  },
);
