/** Accessed and dirty flags, results, leaves, memories, and refused configurations. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import { ConfigError, MemoryRangeError, ReadOnlyMemoryError, UnsupportedError } from "../../src/errors.js";
import { createEngine } from "../engine.js";
import {
  A,
  CR0,
  CR4,
  chain,
  D,
  EFER,
  engine,
  eptIdentity,
  eptSpace,
  fault,
  G,
  longMode,
  machine,
  mapped,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PS,
  PT,
  ram,
  U,
  W,
  XD,
} from "./build.js";

const { Read, Write, User, Fetch, Probe } = Access;
const tables = [PML4, PDPT, PD, PT];

describe('SDM "Accessed and Dirty Flags"', () => {
  const flags = (memory: { readU64(gpa: bigint): bigint }) => tables.map((table) => memory.readU64(table) & (A | D));

  it("a read or fetch sets A in every entry and D nowhere", () => {
    for (const access of [Read, Fetch, User]) {
      const { memory, space } = machine();
      mapped(space.translate(0, access));
      expect(flags(memory)).toEqual([A, A, A, A]);
    }
  });

  it("a write sets D in the leaf only", () => {
    const { memory, space } = machine();
    mapped(space.translate(0, Write));
    expect(flags(memory)).toEqual([A, A, A, A | D]);
  });

  it("a large page is its own leaf", () => {
    const { memory, space } = machine({}, (ram) => ram.writeU64(PD, P | W | PS));
    mapped(space.translate(0, Write));
    expect(flags(memory)).toEqual([A, A, A | D, 0n]);
  });

  it("4-byte entries get them as well", () => {
    const memory = ram();
    memory.writeU32(0x1000, 0x2007);
    memory.writeU32(0x2000, 0x5007);
    memory.writeU32(0x2004, 0xffffffff);
    engine.createAddressSpace(memory, longMode({ cr4: 0n, efer: 0n })).translate(0, Write);
    expect([0x1000, 0x2000, 0x2004].map((gpa) => memory.readU32(gpa))).toEqual([0x2027, 0x5067, 0xffffffff]);
  });

  it("a fault, a probe and walk() set nothing", () => {
    const { memory, space } = machine({}, (ram) => ram.writeU64(PT, PAGE | P));
    expect(space.translate(0, Write).ok).toBe(false);
    expect(space.translate(0, Read | Probe).ok).toBe(true);
    expect(space.walk(0, Read).result.ok).toBe(true);
    expect(flags(memory)).toEqual([0n, 0n, 0n, 0n]);
  });

  it("entries in a read-only slot are never written", () => {
    const memory = engine.createMemory({
      slots: [
        { gpa: 0, size: 0x3000 },
        { gpa: 0x3000, size: 0x10000, readOnly: true },
      ],
    });
    chain(memory);
    mapped(engine.createAddressSpace(memory, longMode()).translate(0, Write));
    expect(flags(memory)).toEqual([A, A, 0n, 0n]);
  });
});

describe("results", () => {
  it("describe the leaf", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PT, PAGE | P | G | PS | 0x18n));
    expect(mapped(space.translate(0x123))).toEqual({
      ok: true,
      status: 0,
      pa: 0x5123n,
      gpa: 0x5123n,
      pageSize: 4096,
      rights: { read: true, write: false, user: false, execute: true, userExecute: true },
      protectionKey: 0,
      global: true,
      memoryType: 7,
    });
  });

  it("name the entry of a fault", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PD + 8n, 0xabc0n));
    expect(fault(space.translate(0x200123, Write | User))).toEqual({
      ok: false,
      status: Status.PageFault,
      vector: 14,
      errorCode: 6n,
      address: 0x200123n,
      stage: "guest",
      level: 2,
      entryAddress: PD + 8n,
      entry: 0xabc0n,
    });
  });

  it("list every entry read, up to the one that stops the walk", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PD, 0n));
    expect(space.walk(0x123)).toMatchObject({
      address: 0x123n,
      steps: [
        { stage: "guest", level: 4, address: PML4, entry: PDPT | 7n },
        { stage: "guest", level: 3, address: PDPT, entry: PD | 7n },
        { stage: "guest", level: 2, address: PD, entry: 0n },
      ],
    });
  });

  it("without paging every address is its own translation", () => {
    const space = engine.createAddressSpace(ram(), { cr0: 1n, cr3: 0n, cr4: CR4.pae | CR4.smap, efer: EFER.nxe });
    expect(space.mode).toBe("none");
    expect(mapped(space.translate(0xfffff123, Write | User))).toMatchObject({
      pa: 0xfffff123n,
      pageSize: 4096,
      memoryType: 0,
      global: false,
      rights: { write: true, user: true, execute: true },
    });
    expect([...space.leaves()]).toEqual([]);
  });

  it("a table outside memory is its own status, in KVM a page that is not present", () => {
    const edit = (memory: { writeU64(gpa: bigint, value: bigint): void }) => memory.writeU64(PD, 0x800000n | P | W | U);
    expect(fault(machine({}, edit).space.translate(0x3123, Write))).toEqual({
      ok: false,
      status: Status.OutsideMemory,
      vector: undefined,
      errorCode: 0n,
      address: 0x3123n,
      stage: "guest",
      level: 1,
      entryAddress: 0x800018n,
      entry: 0n,
    });
    expect(fault(machine({ rules: "kvm-6.1" }, edit).space.translate(0x3123, Write))).toMatchObject({
      status: Status.PageFault,
      errorCode: 2n,
      level: 1,
      entryAddress: 0x800018n,
      entry: 0n,
    });
  });

  it("the page itself need not be in memory", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PT, 0x7f0000000000n | P));
    expect(mapped(space.translate(1)).pa).toBe(0x7f0000000001n);
  });
});

describe("leaves", () => {
  it("come in ascending order, sign-extended, with rights ANDed over the levels", () => {
    const { space } = machine({}, (memory) => {
      memory.writeU64(PML4 + 8n * 511n, PDPT | P | W);
      memory.writeU64(PD + 8n, (1n << 21n) | P | PS | W | XD);
      memory.writeU64(PT, PAGE | P | U);
      memory.writeU64(PT + 8n * 3n, PAGE | P | W | U | (1n << 51n));
    });
    const rights = { read: true, write: false, user: true, execute: true, userExecute: true };
    const large = { read: true, write: true, user: false, execute: false, userExecute: false };
    const leaf4k = { pa: PAGE, size: 4096n, entry: PAGE | P | U, level: 1 };
    const odd = { pa: PAGE | (1n << 51n), size: 4096n, level: 1 };
    const top = 0xffffff8000000000n;
    expect([...space.leaves()]).toMatchObject([
      { ...leaf4k, va: 0n, rights },
      { ...odd, va: 0x3000n },
      { va: 0x200000n, pa: 1n << 21n, size: 1n << 21n, level: 2, rights: large },
      { ...leaf4k, va: top, rights: { ...rights, user: false } },
      { ...odd, va: top | 0x3000n },
      { va: top | 0x200000n, level: 2, rights: large },
    ]);
  });

  it("leave out what is reserved, unless the space is lenient", () => {
    const edit = (memory: { writeU64(gpa: bigint, value: bigint): void }) =>
      memory.writeU64(PT, PAGE | P | (1n << 45n));
    expect([...machine({ maxPhysAddr: 40 }, edit).space.leaves()]).toEqual([]);
    expect([...machine({ maxPhysAddr: 40, lenient: true }, edit).space.leaves()]).toHaveLength(1);
  });

  it("end with an error where a table is outside memory", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PML4 + 8n, 0x800000n | P));
    const leaves = space.leaves();
    expect(leaves.next().value).toMatchObject({ va: 0n });
    expect(() => leaves.next()).toThrow(MemoryRangeError);
  });

  it("use latched PDPTEs", () => {
    const space = engine.createAddressSpace(ram(), longMode({ efer: 0n, pdpteValues: [0n, 0n, 0n, 0x3001n] }));
    const memory = ram();
    memory.writeU64(PD, P | PS);
    const own = engine.createAddressSpace(memory, longMode({ efer: 0n, pdpteValues: [0n, 0n, 0n, PD | P] }));
    expect([...space.leaves()]).toEqual([]);
    expect([...own.leaves()]).toMatchObject([{ va: 0xc0000000n, level: 2 }]);
  });

  it("are refused for a space with two stages", () => {
    const memory = ram();
    eptIdentity(memory);
    const space = engine.createAddressSpace(memory, longMode({ secondStage: eptSpace(memory) }));
    expect(() => space.leaves()).toThrow(UnsupportedError);
  });
});

describe("memory", () => {
  it("is read and written little-endian, across slots, and not beyond them", () => {
    const memory = engine.createMemory({
      slots: [
        { gpa: 0x2000, size: 4096 },
        { gpa: 0x1000n, size: 4096 },
      ],
    });
    memory.writeU64(0x1ffcn, 0x1122334455667788n);
    expect(memory.readU64(0x1ffc)).toBe(0x1122334455667788n);
    expect(memory.readU32(0x2000)).toBe(0x11223344);
    expect([...memory.read(0x1ffe, 3)]).toEqual([0x66, 0x55, 0x44]);
    expect(() => memory.writeU64(0x2ffcn, 0xffn)).toThrow(MemoryRangeError);
    expect(memory.readU32(0x2ffc)).toBe(0);
    expect(() => memory.read(0x2fff, 2)).toThrow(MemoryRangeError);
    expect(() => memory.read(0xfff, 1)).toThrow(MemoryRangeError);
    expect(() => memory.read(0x1000, 2 ** 50)).toThrow(MemoryRangeError);
  });

  it.each([
    ["unaligned gpa", [{ gpa: 1, size: 4096 }]],
    ["unaligned size", [{ gpa: 0, size: 100 }]],
    ["no size", [{ gpa: 0, size: 0 }]],
    [
      "overlap",
      [
        { gpa: 0x1000, size: 4096 },
        { gpa: 0, size: 8192 },
      ],
    ],
    ["beyond 52 bits", [{ gpa: 1n << 52n, size: 4096 }]],
  ])("refuses slots with %s", (_name, slots) => {
    expect(() => engine.createMemory({ slots })).toThrow(ConfigError);
  });

  it("asks a source once for each page, behind the slots, and never changes it", () => {
    const backing = ram();
    chain(backing);
    const asked: bigint[] = [];
    const memory = engine.createMemory({
      slots: [{ gpa: PT, size: 4096 }],
      source: {
        readPage(gfn, into) {
          asked.push(gfn);
          if (gfn >= 256n) return false;
          into.set(backing.read(gfn << 12n, 4096));
          return true;
        },
      },
    });
    memory.writeU64(PT, PAGE | 7n);
    const space = engine.createAddressSpace(memory, longMode());
    for (let round = 0; round < 3; round++) mapped(space.translate(0, Write));
    expect(asked).toEqual([1n, 2n, 3n]);
    expect(memory.readU64(PD)).toBe(PT | 7n);
    expect(memory.readU64(PT)).toBe(PAGE | 7n | A | D);
    expect(() => memory.read(1 << 20, 1)).toThrow(MemoryRangeError);
    expect(() => memory.writeU32(PD, 0)).toThrow(ReadOnlyMemoryError);
    // Across the slot's end nothing is written.
    expect(() => memory.write(PT + 4092n, new Uint8Array(8).fill(1))).toThrow(ReadOnlyMemoryError);
    expect(memory.readU32(PT + 4092n)).toBe(0);
    expect(() => memory.writeU32(1 << 20, 0)).not.toThrow(ReadOnlyMemoryError);
    expect(() => memory.writeU32(1 << 20, 0)).toThrow(MemoryRangeError);
  });
});

describe("configurations that contradict themselves are refused", () => {
  const memory = ram();
  it.each([
    ["maxPhysAddr 31", { maxPhysAddr: 31 }],
    ["maxPhysAddr 53", { maxPhysAddr: 53 }],
    ["maxPhysAddr 40.5", { maxPhysAddr: 40.5 }],
    ["PG without PE", { cr0: 0x80000000n }],
    ["LMA without PAE", { cr4: 0n }],
    ["LMA without PG", { cr0: 1n }],
    ["a negative register", { cr3: -1n }],
    ["a wide PKRU", { pkru: 2 ** 32 }],
    ["an unknown rule set", { rules: "vbox" as never }],
  ] as [string, object][])("%s", (_name, changes) => {
    expect(() => engine.createAddressSpace(memory, longMode(changes))).toThrow(ConfigError);
  });

  it("a second stage that is another engine's or no second stage, a memory of another engine", () => {
    const other = createEngine();
    const foreign = other.createMemory({ slots: [{ gpa: 0, size: 4096 }] });
    expect(() => engine.createAddressSpace(foreign, longMode())).toThrow(ConfigError);
    const ept = other.createEpt(foreign, { eptp: 0x1en });
    expect(() => engine.createAddressSpace(memory, longMode({ secondStage: ept }))).toThrow(ConfigError);
    const guest = engine.createAddressSpace(memory, longMode());
    expect(() => engine.createAddressSpace(memory, longMode({ secondStage: guest }))).toThrow(ConfigError);
  });

  it("modes follow CR0.PG, CR4.PAE, EFER.LMA and CR4.LA57", () => {
    const mode = (cr0: bigint, cr4: bigint, efer: bigint) =>
      engine.createAddressSpace(memory, { cr0, cr3: 0n, cr4, efer }).mode;
    expect(mode(1n, CR4.pae, 0n)).toBe("none");
    expect(mode(CR0.base, 0n, 0n)).toBe("32bit");
    expect(mode(CR0.base, CR4.pae | CR4.la57, 0n)).toBe("pae");
    expect(mode(CR0.base, CR4.pae, EFER.long)).toBe("4level");
    expect(mode(CR0.base, CR4.pae | CR4.la57, EFER.long)).toBe("5level");
  });
});
