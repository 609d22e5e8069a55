/** Guest-physical memory as the host layer keeps it: slots, and pages of a source. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { ConfigError, MemoryRangeError, OutOfMemoryError } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };

describe("slots", () => {
  const core = loadSync();

  it("may be given in any order and touch each other; ranges reach over them", () => {
    const memory = core.createMemory({
      slots: [
        { gpa: 0x3000, size: 0x1000 },
        { gpa: 0x1000, size: 0x1000 },
        { gpa: 0x2000, size: 0x1000 },
        { gpa: 0x8000, size: 0x1000 },
      ],
    });
    const bytes = Uint8Array.from({ length: 0x3000 }, (_, index) => (index >> 8) + 1);
    memory.write(0x1000, bytes);
    expect(memory.read(0x1000, 0x3000)).toEqual(bytes);
    expect(memory.read(0x1ffe, 4)).toEqual(Uint8Array.of(16, 16, 17, 17));
    // A walk finds each of them too: the tables lie in three slots, the page in the fourth.
    memory.writeU64(0x1000, 0x2003n);
    memory.writeU64(0x2000, 0x3003n);
    memory.writeU64(0x3000, 0x8003n);
    memory.writeU64(0x8000, 0x5003n);
    expect(core.createAddressSpace(memory, LONG).translate(0)).toMatchObject({ ok: true, pa: 0x5000n });
  });

  it("are refused where they overlap by a page, whatever their order", () => {
    const slots = [
      { gpa: 0x2000, size: 0x1000 },
      { gpa: 0x1000, size: 0x2000 },
    ];
    expect(() => core.createMemory({ slots })).toThrow(ConfigError);
    expect(() => core.createMemory({ slots: [...slots].reverse() })).toThrow(ConfigError);
  });

  it("take nothing of a write that ends outside them", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x2000 }] });
    for (const [at, length] of [
      [0x1ffe, 4],
      [0x1000, 0x1001],
      [0, 0x2001],
    ] as const) {
      expect(() => memory.write(at, new Uint8Array(length).fill(1))).toThrow(MemoryRangeError);
      expect(() => memory.read(at, length)).toThrow(MemoryRangeError);
    }
    expect(memory.read(0, 0x2000).every((byte) => byte === 0)).toBe(true);
  });
});

describe("values, buffers and strings by physical address", () => {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0x1000, size: 0x2000 }] });

  it("are little-endian, at any address", () => {
    memory.writeU64(0x1ffd, 0x8877665544332211n);
    expect([memory.readU8(0x1ffd), memory.readU16(0x1ffd)]).toEqual([0x11, 0x2211]);
    expect([memory.readU32(0x1ffd), memory.readU64(0x1ffd)]).toEqual([0x44332211, 0x8877665544332211n]);
    memory.writeU8(0x1ffe, 0xaa);
    memory.writeU16(0x1fff, 0xccbb);
    expect(memory.readU64(0x1ffd)).toBe(0x88776655ccbbaa11n);
    const into = new Uint16Array(2);
    memory.readInto(0x1ffe, into);
    expect([...into]).toEqual([0xbbaa, 0x55cc]);
  });

  it("end at a NUL, or are cut at the longest length", () => {
    memory.write(0x1ffc, new TextEncoder().encode("linux\0"));
    expect(memory.readString(0x1ffc, 100)).toEqual({
      text: "linux",
      bytes: new TextEncoder().encode("linux"),
      terminated: true,
    });
    expect(memory.readString(0x1ffc, 3)).toMatchObject({ text: "lin", terminated: false });
    memory.write(0x2ffe, Uint8Array.of(0x41, 0));
    expect(memory.readString(0x2ffe, 100)).toMatchObject({ text: "A", terminated: true });
    memory.writeU8(0x2fff, 0x42);
    expect(() => memory.readString(0x2ffe, 100)).toThrow(MemoryRangeError);
    expect(memory.readString(0x2ffe, 2)).toMatchObject({ text: "AB", terminated: false });
  });

  it("change nothing outside the slots, and refuse what does not fit", () => {
    const into = new Uint8Array(4).fill(7);
    expect(() => memory.readInto(0x2ffe, into)).toThrow(MemoryRangeError);
    expect([...into]).toEqual([7, 7, 7, 7]);
    expect(() => memory.writeU16(0x2fff, 0)).toThrow(MemoryRangeError);
    expect(memory.readU8(0x2fff)).toBe(0x42);
    expect(() => memory.readU8(0xfff)).toThrow(MemoryRangeError);
    for (const bad of [-1, 0.5, 65536]) expect(() => memory.writeU16(0x1000, bad)).toThrow(RangeError);
    for (const bad of [-1, 0.5, 256]) expect(() => memory.writeU8(0x1000, bad)).toThrow(RangeError);
    for (const bad of [-1, 0.5, 2 ** 40]) expect(() => memory.readString(0x1000, bad)).toThrow(RangeError);
    expect(() => memory.readInto(0x1000, "text" as unknown as Uint8Array)).toThrow(TypeError);
  });
});

describe("pages of a source", () => {
  /** Byte n of a page is its frame number plus n. */
  const counting = {
    readPage(gfn: bigint, into: Uint8Array) {
      if (gfn > 0x100n) return false;
      for (let index = 0; index < into.length; index++) into[index] = Number(gfn) + index;
      return true;
    },
  };

  it("are read from any offset, across pages, and behind slots", () => {
    const memory = loadSync().createMemory({ slots: [{ gpa: 0x1000, size: 0x1000 }], source: counting });
    expect(memory.read(0x5003, 3)).toEqual(Uint8Array.of(8, 9, 10));
    expect(memory.read(0x5fff, 2)).toEqual(Uint8Array.of(4, 6));
    expect(memory.read(0x0fff, 2)).toEqual(Uint8Array.of(255, 0));
    expect(memory.read(0x1fff, 2)).toEqual(Uint8Array.of(0, 2));
    expect(() => memory.read(0x100ffe, 2)).not.toThrow();
    expect(() => memory.read(0x101000, 1)).toThrow(MemoryRangeError);
  });

  /** A root table at 0x1000 whose entry n leads to frame 0x1000 + n; those frames are absent. */
  function absentTables() {
    const asked = new Map<bigint, number>();
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        asked.set(gfn, (asked.get(gfn) ?? 0) + 1);
        if (gfn !== 1n) return false;
        const view = new DataView(into.buffer, into.byteOffset);
        for (let index = 0; index < 512; index++)
          view.setBigUint64(index * 8, (BigInt(0x1000 + index) << 12n) | 3n, true);
        return true;
      },
    };
    return { asked, source };
  }

  it("are remembered while they fit, absent ones too, also when the table of them grows", () => {
    const { asked, source } = absentTables();
    const core = loadSync();
    const space = core.createAddressSpace(core.createMemory({ source, cachedPages: 1024 }), LONG);
    const addresses = Array.from({ length: 256 }, (_, index) => BigInt(index) << 39n);
    for (let round = 0; round < 2; round++) {
      for (const address of addresses) expect(space.translate(address).status).toBe(6);
    }
    expect(asked.size).toBe(257);
    expect([...asked.values()].every((count) => count === 1)).toBe(true);
  });

  it("do not fill the memory with frames that are absent", () => {
    const { asked, source } = absentTables();
    const core = loadSync();
    const space = core.createAddressSpace(core.createMemory({ source, cachedPages: 64 }), LONG);
    for (let index = 0n; index < 256n; index++) space.translate(index << 39n);
    // At most four times as many frames as pages are known; the root table has been forgotten with the others.
    expect(asked.get(1n)).toBeGreaterThan(1);
  });

  it("are given back with the memory", () => {
    const core = loadSync();
    const use = () => {
      const memory = core.createMemory({ source: counting });
      const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000 });
      for (let index = 0n; index < 64n; index++) space.translate(index << 39n);
      space.dispose();
      memory.dispose();
    };
    use();
    const size = core.linearMemory.buffer.byteLength;
    for (let round = 0; round < 200; round++) use();
    expect(core.linearMemory.buffer.byteLength).toBe(size);
  });
});

describe("a caller's memory", () => {
  it("never grows, and a failure gives back everything that was taken before it", () => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 16 });
    const core = loadSync(undefined, { memory, region: { base: 0x10000, size: 0x10000 } });
    const slots = [
      { gpa: 0, size: 0x8000 },
      { gpa: 0x100000, size: 0x10000 },
    ];
    for (let round = 0; round < 50; round++) expect(() => core.createMemory({ slots })).toThrow(OutOfMemoryError);
    expect(memory.buffer.byteLength).toBe(4 * 65536);
    expect(core.createMemory({ slots: slots.slice(0, 1) }).read(0, 1)).toEqual(Uint8Array.of(0));
  });
});

it("MOV to CR3 reads PDPTEs from memory, also where others were given before", () => {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  // Two PDPTs of one entry, each with a directory and a table of its own.
  for (const [at, page] of [
    [0x1000, 0xa000n],
    [0x5000, 0xb000n],
  ] as const) {
    memory.writeU64(at, BigInt(at + 0x1000) | 1n);
    memory.writeU64(at + 0x1000, BigInt(at + 0x2000) | 7n);
    memory.writeU64(at + 0x2000, page | 7n);
  }
  const pdpteValues = [0x6001n, 0n, 0n, 0n] as const;
  const space = core.createAddressSpace(memory, { ...LONG, efer: 0, pdpteValues });
  expect(space.translate(0)).toMatchObject({ ok: true, pa: 0xb000n });
  space.update({ cr0: LONG.cr0 });
  expect(space.translate(0)).toMatchObject({ ok: true, pa: 0xb000n });
  space.writeCr3(0x1000);
  expect(space.translate(0)).toMatchObject({ ok: true, pa: 0xa000n });
  space.writeCr3(0x5000);
  expect(space.translate(0)).toMatchObject({ ok: true, pa: 0xb000n });
});
