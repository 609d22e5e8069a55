/** What callers pass to an engine: taken for what it is or refused with a typed error, and nothing changes then. */
import { describe, expect, it } from "vitest";
import type { AddressSpaceConfig, EptConfig, MemoryConfig, NptConfig, PageSource, SlotConfig } from "../../src/api.js";
import { ConfigError, MemoryRangeError, PageSourceError } from "../../src/errors.js";
import { EPTP, engine, longMode, ram } from "./build.js";

describe("what is written to memory", () => {
  const text = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
  const bytes = Uint8Array.from(text);
  const shared = new SharedArrayBuffer(8);
  new Uint8Array(shared).set(bytes);
  it.each([
    ["a Uint8Array", bytes],
    ["part of one", Uint8Array.from([0, ...text, 0]).subarray(1, 9)],
    ["a Buffer", Buffer.from(text)],
    ["an ArrayBuffer", bytes.slice().buffer],
    ["a SharedArrayBuffer", shared],
    ["a Uint16Array", new Uint16Array(bytes.slice().buffer)],
    ["a Uint32Array", new Uint32Array(bytes.slice().buffer)],
    ["a BigUint64Array", new BigUint64Array(bytes.slice().buffer)],
    ["a DataView of a part", new DataView(Uint8Array.from([0, ...text, 0]).buffer, 1, 8)],
  ])("%s is written byte by byte", (_, data) => {
    const memory = ram();
    memory.write(0xffc, data);
    expect([...memory.read(0xffb, 10)]).toEqual([0, ...text, 0]);
  });

  it.each([
    ["an array", text],
    ["a string", "text"],
    ["nothing", undefined],
    ["an object with a length", { length: 8 }],
  ])("%s is refused", (_, data) => {
    const memory = ram();
    expect(() => memory.write(0, data as unknown as Uint8Array)).toThrow(TypeError);
    expect(memory.readU64(0)).toBe(0n);
  });

  it.each([-1, Number.NaN, 1.5, Number.POSITIVE_INFINITY, "8"])("a length of %s is refused", (length) => {
    expect(() => ram().read(0, length as number)).toThrow(RangeError);
  });

  it.each([-1, 2 ** 32, 0.5, "1", 1n])("a 32-bit value of %s is refused", (value) => {
    expect(() => ram().writeU32(0, value as number)).toThrow(RangeError);
  });

  it.each([-1n, 1n << 64n, 0.5, "1"])("a 64-bit value of %s is refused", (value) => {
    expect(() => ram().writeU64(0, value as bigint)).toThrow(RangeError);
  });

  it("an absurd length is refused before anything is allocated", () => {
    expect(() => ram().read(0, Number.MAX_SAFE_INTEGER)).toThrow(MemoryRangeError);
  });
});

describe("a memory's configuration", () => {
  const slot = { gpa: 0, size: 4096 };
  it.each<[string, unknown]>([
    ["no object", null],
    ["an unknown option", { slot: [slot] }],
    ["slots that are no array", { slots: slot }],
    ["a slot that is none", { slots: [7] }],
    ["an unknown option of a slot", { slots: [{ ...slot, readonly: true }] }],
    ["an address that is none", { slots: [{ ...slot, gpa: "0" }] }],
    ["a negative address", { slots: [{ ...slot, gpa: -4096 }] }],
    ["an address that is not aligned", { slots: [{ ...slot, gpa: 8 }] }],
    ["an address at 2^52", { slots: [{ ...slot, gpa: 1n << 52n }] }],
    ["an end beyond 2^52", { slots: [{ size: 8192, gpa: (1n << 52n) - 4096n }] }],
    ["a size of NaN", { slots: [{ ...slot, size: Number.NaN }] }],
    ["a size of 0", { slots: [{ ...slot, size: 0 }] }],
    ["a size that is a bigint", { slots: [{ ...slot, size: 4096n }] }],
    ["readOnly that is no boolean", { slots: [{ ...slot, readOnly: 1 }] }],
    ["a source without readPage", { source: {} }],
    ["a source that is a function", { source: () => true }],
  ])("%s is refused", (_, config) => {
    expect(() => engine.createMemory(config as MemoryConfig)).toThrow(ConfigError);
  });

  it("a slot may end at 2^52", () => {
    const slots: SlotConfig[] = [{ size: 4096, gpa: (1n << 52n) - 4096n }];
    expect(engine.createMemory({ slots }).readU64((1n << 52n) - 8n)).toBe(0n);
  });

  it("a source that returns a promise is refused when it is asked", () => {
    const source = { readPage: async () => true } as unknown as PageSource;
    const space = engine.createAddressSpace(engine.createMemory({ source }), longMode());
    expect(() => space.translate(0)).toThrow(PageSourceError);
  });
});

describe("a space's configuration", () => {
  it.each<[string, object]>([
    ["an unknown option", { tlb: 64 }],
    ["an unknown option of cpu", { cpu: { page1G: true } }],
    ["cpu that is no object", { cpu: "intel" }],
    ["a flag of cpu that is no boolean", { cpu: { pse36: 1 } }],
    ["lenient that is no boolean", { lenient: "yes" }],
    ["an unknown rule set", { rules: "kvm" }],
    ["pdptes of another kind", { pdptes: "dead" }],
    ["three pdpteValues", { pdpteValues: [0n, 0n, 0n] }],
    ["pdpteValues that is no array", { pdpteValues: 4 }],
    ["a register that is a string", { cr3: "0x1000" }],
    ["a negative register of more than 32 bits", { cr4: -(2 ** 31) - 1 }],
    ["a negative bigint", { cr4: -1n }],
    ["a register beyond 64 bits", { efer: 1n << 64n }],
    ["a maxPhysAddr of NaN", { maxPhysAddr: Number.NaN }],
    ["a PKRU beyond 32 bits", { pkru: 2 ** 32 }],
    ["a secondStage of another kind", { secondStage: {} }],
  ])("%s is refused", (_, change) => {
    const config = { ...longMode(), ...change } as unknown as AddressSpaceConfig;
    expect(() => engine.createAddressSpace(ram(), config)).toThrow(ConfigError);
  });

  it("what a value rests on may be said", () => {
    const config = { ...longMode(), origin: { cr3: "given" } };
    expect(engine.createAddressSpace(ram(), config).mode).toBe("4level");
  });

  it.each<[string, object]>([
    ["an unknown option", { ad: true }],
    ["a flag that is no boolean", { executeOnly: 0 }],
    ["no EPTP", { eptp: undefined }],
  ])("of EPT: %s is refused", (_, change) => {
    expect(() => engine.createEpt(ram(), { eptp: EPTP, ...change } as unknown as EptConfig)).toThrow(ConfigError);
  });

  it.each<[string, object]>([
    ["an unknown option", { lenient: true }],
    ["no nCR3", { ncr3: undefined }],
  ])("of NPT: %s is refused", (_, change) => {
    expect(() => engine.createNpt(ram(), { ncr3: 0x1000, ...change } as unknown as NptConfig)).toThrow(ConfigError);
  });
});
