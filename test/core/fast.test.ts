/** The fast call where its short cut must not be taken. */
import { describe, expect, it } from "vitest";
import { decodeFault, loadSync } from "../../src/core/index.js";
import { Access, type AddressSpaceConfig, Status } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const A = 0x20n;
const D = 0x40n;
const core = loadSync();

/** Identity EPT of the first 128 KiB with its root at 0x10000; page 5 lies at 0x1f000. */
function machine(config: Partial<AddressSpaceConfig>, withEpt = false) {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
  for (let table = 1n; table <= 4n; table++) memory.writeU64(table << 12n, ((table + 1n) << 12n) | A | 7n);
  memory.writeU64(0x10000, 0x11007n);
  memory.writeU64(0x11000, 0x12007n);
  memory.writeU64(0x12000, 0x13007n);
  for (let page = 0n; page < 32n; page++) memory.writeU64(0x13000n + 8n * page, (page << 12n) | 0x37n);
  memory.writeU64(0x13028, 0x1f037n);
  const secondStage = withEpt ? { secondStage: core.createEpt(memory, { eptp: 0x1001e }) } : {};
  return { memory, space: core.createAddressSpace(memory, { ...LONG, ...config, ...secondStage }) };
}

describe("translateFast", () => {
  it("goes through the second stage though every guest entry is as it should be", () => {
    const { space } = machine({}, true);
    expect(space.translateFast(0, 0x123, Access.Read)).toBe(0x1f123);
    expect(space.translateBatch(BigUint64Array.of(0x123n), new BigUint64Array(1))).toBe(0);
  });

  it("sets D before a write is let through", () => {
    const { space, memory } = machine({});
    expect(space.translateFast(0, 0x123, Access.Read)).toBe(0x5123);
    expect(memory.readU64(0x4000)).toBe(0x5027n);
    expect(space.translateFast(0, 0x123, Access.Write)).toBe(0x5123);
    expect(memory.readU64(0x4000)).toBe(0x5067n);
  });

  it("sets A where one entry lacks it", () => {
    for (const table of [1n, 2n, 3n, 4n]) {
      const { space, memory } = machine({});
      const before = memory.readU64(table << 12n);
      memory.writeU64(table << 12n, before & ~A);
      expect(space.translateFast(0, 0x123, Access.Read)).toBe(0x5123);
      expect(memory.readU64(table << 12n)).toBe(before);
    }
  });

  it("heeds protection keys of user and of supervisor pages", () => {
    const denied = (config: Partial<AddressSpaceConfig>, leaf: bigint) => {
      const { space, memory } = machine(config);
      memory.writeU64(0x4000, leaf);
      return decodeFault(space.translateFast(0, 0, Access.Read));
    };
    const fault = { status: Status.PageFault, errorCode: 0x21 };
    expect(denied({ cr4: 0x400020, pkru: 1 }, 0x5027n | D)).toEqual(fault);
    expect(denied({ cr4: 0x1000020, pkrs: 1 }, 0x5023n | D)).toEqual(fault);
  });
});

describe("a batch", () => {
  it("sets accessed and dirty bits as single calls do", () => {
    const { space, memory } = machine({});
    memory.writeU64(0x1000, 0x2007n);
    expect(space.translateBatch(BigUint64Array.of(0x123n), new BigUint64Array(1), Access.Write)).toBe(0);
    expect([memory.readU64(0x1000), memory.readU64(0x4000)]).toEqual([0x2027n, 0x5067n]);
    memory.writeU64(0x4000, 0x5007n);
    const probe = Access.Write | Access.Probe;
    expect(space.translateBatch(BigUint64Array.of(0x123n), new BigUint64Array(1), probe)).toBe(0);
    expect(memory.readU64(0x4000)).toBe(0x5007n);
  });
});
