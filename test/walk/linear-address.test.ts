/** Canonical addresses and LAM. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { ConfigError } from "../../src/errors.js";
import { CR4, engine, fault, longMode, machine, mapped, P, PD, PDPT, PML4, PML5, PS, PT, ram, U, W } from "./build.js";

const { Read, Fetch, Implicit, User } = Access;
const LAM_U57 = 1n << 61n;
const LAM_U48 = 1n << 62n;
const la57 = { cr4: CR4.pae | CR4.la57, cr3: PML5 };

/** A space in which every linear address is mapped. */
function everywhere(changes: Partial<AddressSpaceConfig>) {
  return machine(changes, (memory) => {
    for (let index = 0n; index < 512n; index++) {
      memory.writeU64(PML5 + 8n * index, PML4 | P | W | U);
      memory.writeU64(PML4 + 8n * index, PDPT | P | W | U);
      memory.writeU64(PDPT + 8n * index, PD | P | W | U);
      memory.writeU64(PD + 8n * index, P | W | U | PS);
    }
  }).space;
}

function outcome(changes: Partial<AddressSpaceConfig>, address: bigint, access: number = Read): "ok" | "noncanonical" {
  const result = everywhere(changes).translate(address, access);
  if (result.ok) return "ok";
  expect(result).toMatchObject({
    status: Status.NonCanonical,
    vector: 13,
    errorCode: 0n,
    address,
    level: 0,
    entryAddress: 0n,
    entry: 0n,
  });
  return "noncanonical";
}

describe("canonical addresses", () => {
  it("repeat bit 47 in 4-level paging, bit 56 in 5-level paging", () => {
    for (const [changes, low] of [
      [{}, 1n << 47n],
      [la57, 1n << 56n],
    ] as const) {
      expect(outcome(changes, low - 4096n)).toBe("ok");
      expect(outcome(changes, low)).toBe("noncanonical");
      expect(outcome(changes, (1n << 64n) - low)).toBe("ok");
      expect(outcome(changes, (1n << 64n) - low - 4096n)).toBe("noncanonical");
      expect(outcome(changes, 1n << 63n)).toBe("noncanonical");
    }
  });

  it.each([
    ["no paging", 1n, 0n],
    ["32-bit paging", 0x80000001n, 0n],
    ["PAE paging", 0x80000001n, 0x20n],
  ])("have 32 bits outside long mode: %s", (_mode, cr0, cr4) => {
    const space = engine.createAddressSpace(ram(), { cr0, cr3: 0n, cr4, efer: 0n });
    for (const wide of [1n << 32n, 1n << 63n]) {
      expect(() => space.translate(wide)).toThrow(ConfigError);
      expect(() => space.walk(wide)).toThrow(ConfigError);
    }
    expect(() => space.translate(0xffffffffn)).not.toThrow();
  });

  it("are checked before any table is read", () => {
    const { space } = machine({ cr3: 0xff000000n });
    expect(space.walk(1n << 63n)).toMatchObject({ steps: [], result: { status: Status.NonCanonical } });
  });

  it("are 64-bit numbers", () => {
    const { space } = machine();
    for (const bad of [-1n, 1n << 64n, -1, 1.5, Number.NaN, 2 ** 53]) {
      expect(() => space.translate(bad)).toThrow(RangeError);
    }
  });
});

describe('SDM "Linear-Address Masking"', () => {
  const tag = (low: number, high: number) => ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
  const u48 = { cr3: PML4 | LAM_U48 };
  const u57 = { cr3: PML4 | LAM_U57 };
  const u57over5 = { cr4: la57.cr4, cr3: PML5 | LAM_U57 };
  const u48over5 = { cr4: la57.cr4, cr3: PML5 | LAM_U48 };
  const sup = { cr4: CR4.pae | CR4.lamSup };
  const sup5 = { cr4: la57.cr4 | CR4.lamSup, cr3: PML5 };
  const TOP = 1n << 63n;

  it("LAM_U48 ignores bits 62:48 of addresses whose bit 63 is 0", () => {
    expect(outcome(u48, tag(48, 62))).toBe("ok");
    expect(outcome(u48, tag(48, 62) | (1n << 47n))).toBe("noncanonical");
    expect(outcome({}, tag(48, 62))).toBe("noncanonical");
    expect(outcome(u48over5, tag(48, 62))).toBe("ok");
    expect(outcome(u48over5, 1n << 47n)).toBe("noncanonical");
  });

  it("LAM_U57 ignores bits 62:57 only, and has precedence", () => {
    expect(outcome(u57, tag(57, 62))).toBe("ok");
    expect(outcome(u57, tag(56, 62))).toBe("noncanonical");
    expect(outcome(u57, tag(48, 62))).toBe("noncanonical");
    expect(outcome({ cr3: PML4 | LAM_U57 | LAM_U48 }, tag(48, 62))).toBe("noncanonical");
    expect(outcome(u57over5, tag(57, 62) | (1n << 55n))).toBe("ok");
    expect(outcome(u57over5, 1n << 56n)).toBe("noncanonical");
  });

  it("LAM_SUP ignores bits 62:48 or 62:57 of addresses whose bit 63 is 1", () => {
    expect(outcome(sup, TOP | (1n << 47n))).toBe("ok");
    expect(outcome(sup, TOP)).toBe("noncanonical");
    expect(outcome(sup5, TOP | (1n << 56n))).toBe("ok");
    expect(outcome(sup5, TOP | tag(57, 62))).toBe("noncanonical");
    expect(outcome(sup, tag(48, 62))).toBe("noncanonical");
    expect(outcome(u48, TOP | (1n << 47n))).toBe("noncanonical");
  });

  it("the address decides which, not the CPL", () => {
    expect(outcome(u48, tag(48, 62), User)).toBe("ok");
    expect(outcome(sup, TOP | (1n << 47n), User)).toBe("ok");
  });

  it("neither fetches nor implicit accesses are masked", () => {
    expect(outcome(u48, tag(48, 62), Fetch)).toBe("noncanonical");
    expect(outcome(u48, tag(48, 62), Implicit)).toBe("noncanonical");
    expect(outcome(u48, tag(48, 62), Access.Write)).toBe("ok");
  });

  it("masking comes before paging: the translation and CR2 have no metadata", () => {
    const { space, memory } = machine(u48);
    expect(mapped(space.translate(tag(48, 62) | 0x123n)).pa).toBe(0x5123n);
    memory.writeU64(PT, 0n);
    expect(fault(space.translate(tag(48, 62) | 0x123n)).address).toBe(0x123n);
    const high = machine(sup).space;
    expect(fault(high.translate(TOP | (1n << 47n))).address).toBe(0xffff800000000000n);
  });

  it("LAM bits mean nothing outside long mode", () => {
    const space = engine.createAddressSpace(ram(), longMode({ cr4: CR4.lamSup, efer: 0n, cr3: LAM_U48 }));
    expect(() => space.translate(1n << 48n)).toThrow(ConfigError);
  });
});
