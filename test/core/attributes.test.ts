/** Memory types and sharing in results follow the registers and options of a space. */
import { expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import { type CoreSpace, loadSync } from "../../src/core/index.js";
import { ConfigError } from "../../src/errors.js";

const core = loadSync();
const LONG = { cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const WB = 0x0606060606060606n;
const CD = 1n << 30n;

function make(config = {}): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  for (const table of [0x1000n, 0x2000n, 0x3000n, 0x4000n]) memory.writeU64(table, (table + 0x1000n) | 7n);
  return core.createAddressSpace(memory, { ...LONG, ...config });
}

function typeOf(space: CoreSpace): unknown {
  const result = space.translate(0, Access.Probe);
  return result.ok ? result.effectiveMemoryType : result;
}

it("CR0.CD counts from the write that sets it, IA32_PAT and the MTRRs from their update", () => {
  const space = make({ pat: WB });
  expect(typeOf(space)).toBe("WB");
  for (const _ of [1, 2, 3]) {
    space.update({ cr0: LONG.cr0 | CD });
    expect(typeOf(space)).toBe("UC");
    space.update({ cr0: LONG.cr0 });
    expect(typeOf(space)).toBe("WB");
  }
  space.update({ pat: 4n });
  expect(typeOf(space)).toBe("WT");
  space.update({ mtrrs: { defType: 0n } });
  expect(typeOf(space)).toBe("UC");
  space.writeCr3(0x1000n);
  expect(typeOf(space)).toBe("UC");
  expect(space.configuration).toMatchObject({ config: { pat: 4n, mtrrs: { defType: 0n } } });
});

it("results begin and cease to have them", () => {
  const space = make();
  expect(space.translate(0)).not.toHaveProperty("effectiveMemoryType");
  space.update({ pat: WB, memoryEncryption: { kind: "sev", cBit: 51 } });
  expect(space.translate(0)).toMatchObject({ effectiveMemoryType: "WB", shared: true });
  space.update({ pat: undefined, memoryEncryption: undefined } as never);
  expect(Object.keys(space.translate(0))).toEqual(Object.keys(make().translate(0)));
});

it("a refused update changes nothing", () => {
  const space = make({ pat: WB });
  expect(() => space.update({ pat: 3n })).toThrow(ConfigError);
  expect(() => space.update({ mtrrs: { defType: 3n } })).toThrow(ConfigError);
  expect(() => space.update({ memoryEncryption: { kind: "sev", cBit: 12 } })).toThrow(ConfigError);
  expect(typeOf(space)).toBe("WB");
});

it("named encryption is the mask to the fast calls, too", () => {
  const space = make({ memoryEncryption: { kind: "tdx", sharedBit: 51 } });
  space.memory.writeU64(0x4000n, 0x5007n | (1n << 51n));
  expect(space.translateFast(0, 0, Access.Read)).toBe(0x5000);
  expect([...space.leaves()][0]).toMatchObject({ pa: 0x5000n });
});
