/** Confidential guests: SEV's C-bit, virtual top of memory, TDX's shared bit. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig, MemoryEncryption } from "../../src/api.js";
import { ConfigError } from "../../src/errors.js";
import {
  CR0,
  engine,
  eptIdentity,
  eptSpace,
  fault,
  longMode,
  machine,
  mapped,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PT,
  ram,
  U,
  W,
} from "./build.js";

const { Read, Write, Fetch } = Access;
const C = 1n << 47n;

/** Every entry has `tables`, the leaf `leaf`. */
function guest(
  memoryEncryption: MemoryEncryption,
  tables: bigint,
  leaf: bigint,
  changes: Partial<AddressSpaceConfig> = {},
) {
  return machine({ memoryEncryption, maxPhysAddr: 43, ...changes }, (memory) => {
    for (const table of [PML4, PDPT, PD]) memory.writeU64(table, memory.readU64(table) | tables);
    memory.writeU64(PT, PAGE | P | W | U | leaf);
  }).space;
}

describe("SEV's C-bit", () => {
  const sev: MemoryEncryption = { kind: "sev", cBit: 47 };

  it("is no part of an address, and says which pages are private", () => {
    expect(mapped(guest(sev, C, C).translate(0))).toMatchObject({ pa: PAGE, shared: false });
    expect(mapped(guest(sev, C, 0n).translate(0, Write))).toMatchObject({ pa: PAGE, shared: true });
    expect(mapped(guest(sev, 0n, C).walk(0).result)).toMatchObject({ pa: PAGE, shared: false });
    expect(mapped(guest(sev, C, C, { cr3: PML4 | C }).translate(0)).pa).toBe(PAGE);
  });

  it("does not concern fetches, which are private", () => {
    expect(mapped(guest(sev, C, 0n).translate(0, Fetch)).shared).toBe(false);
  });

  it("is the only bit that is", () => {
    expect(fault(guest(sev, 0n, 1n << 46n).translate(0)).errorCode).toBe(9n);
    expect(fault(guest({ kind: "sev", cBit: 46 }, C, 0n).translate(0)).errorCode).toBe(9n);
  });

  it("is not there without paging and with entries of 4 bytes: all is private", () => {
    const none = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n, memoryEncryption: sev };
    expect(mapped(engine.createAddressSpace(ram(), none).translate(0)).shared).toBe(false);
    const memory = ram();
    memory.writeU32(0x1000, 0x2007);
    memory.writeU32(0x2000, 0x5007);
    const narrow = engine.createAddressSpace(memory, { ...none, cr0: CR0.base, cr3: 0x1000n });
    expect(mapped(narrow.translate(0)).shared).toBe(false);
  });

  it("is stripped in front of a second stage", () => {
    const memory = ram();
    eptIdentity(memory);
    for (const [table, next] of [
      [PML4, PDPT],
      [PDPT, PD],
      [PD, PT],
      [PT, PAGE],
    ] as const) {
      memory.writeU64(table, next | P | W | U | (table === PT ? 0n : C));
    }
    const config = longMode({ secondStage: eptSpace(memory), memoryEncryption: sev });
    expect(mapped(engine.createAddressSpace(memory, config).translate(0))).toMatchObject({
      pa: PAGE,
      gpa: PAGE,
      shared: true,
    });
  });
});

describe('APM vol. 2, "Virtual Top-of-Memory"', () => {
  const vtom = (virtualTom: bigint): MemoryEncryption => ({ kind: "sev-vtom", cBit: 47, virtualTom });

  it("shares data pages from there on, not fetches", () => {
    expect(mapped(guest(vtom(0n), 0n, 0n).translate(0)).shared).toBe(true);
    expect(mapped(guest(vtom(0n), 0n, 0n).translate(0, Fetch)).shared).toBe(false);
    expect(mapped(guest(vtom(0x200000n), 0n, 0n).translate(0)).shared).toBe(false);
    const at = (page: bigint) => mapped(guest(vtom(0x200000n), 0n, page ^ PAGE).translate(0, Read)).shared;
    expect(at(0x1ff000n)).toBe(false);
    expect(at(0x200000n)).toBe(true);
  });

  it("leaves no C-bit to entries: it is reserved", () => {
    expect(fault(guest(vtom(0n), 0n, C).translate(0))).toMatchObject({
      status: Status.PageFault,
      errorCode: 9n,
      level: 1,
    });
    expect(fault(guest(vtom(0n), C, 0n).translate(0))).toMatchObject({ errorCode: 9n, level: 4 });
  });
});

describe("TDX's shared bit", () => {
  it("is no part of an address, and says which pages are shared", () => {
    for (const sharedBit of [47, 51]) {
      const tdx: MemoryEncryption = { kind: "tdx", sharedBit };
      const bit = 1n << BigInt(sharedBit);
      expect(mapped(guest(tdx, 0n, bit).translate(0))).toMatchObject({ pa: PAGE, shared: true });
      expect(mapped(guest(tdx, 0n, 0n).translate(0))).toMatchObject({ pa: PAGE, shared: false });
      expect(fault(guest(tdx, 0n, 1n << 46n).translate(0)).errorCode).toBe(9n);
    }
  });
});

describe("the configuration", () => {
  it.each<[string, Partial<AddressSpaceConfig>]>([
    ["a mask beside it", { memoryEncryption: { kind: "sev", cBit: 47 }, encryptionMask: C }],
    ["an unknown kind", { memoryEncryption: { kind: "sme", cBit: 47 } as never }],
    ["no object", { memoryEncryption: "sev" as never }],
    ["null", { memoryEncryption: null as never }],
    ["another kind's bit", { memoryEncryption: { kind: "tdx", sharedBit: 47, cBit: 47 } as never }],
    ["a C-bit below 32", { memoryEncryption: { kind: "sev", cBit: 31 } }],
    ["a C-bit above 51", { memoryEncryption: { kind: "sev", cBit: 52 } }],
    ["a shared bit that no GPAW gives", { memoryEncryption: { kind: "tdx", sharedBit: 48 } }],
    [
      "a top that is no multiple of 2 MiB",
      { memoryEncryption: { kind: "sev-vtom", cBit: 51, virtualTom: 0x1000n }, maxPhysAddr: 48 },
    ],
    [
      "a top beyond all addresses",
      { memoryEncryption: { kind: "sev-vtom", cBit: 51, virtualTom: 1n << 52n }, maxPhysAddr: 48 },
    ],
    [
      "a C-bit that would be an address bit",
      { memoryEncryption: { kind: "sev-vtom", cBit: 47, virtualTom: 0n }, maxPhysAddr: 48 },
    ],
  ])("refuses %s", (_what, changes) => {
    expect(() => machine(changes)).toThrow(ConfigError);
  });

  it("refuses TDX behind a second stage, of which a TD has two", () => {
    const memory = ram();
    const config = longMode({ secondStage: eptSpace(memory), memoryEncryption: { kind: "tdx", sharedBit: 47 } });
    expect(() => engine.createAddressSpace(memory, config)).toThrow(ConfigError);
  });

  it("says nothing of sharing where there is none", () => {
    expect(mapped(machine({ encryptionMask: C }).space.translate(0))).not.toHaveProperty("shared");
  });
});
