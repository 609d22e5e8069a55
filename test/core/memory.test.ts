/** The linear memory: views after growth, a caller's memory, the allocator. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { LinearMemory } from "../../src/core/linear/linear-memory.js";
import { Access, ConfigError, MemoryRangeError, OutOfMemoryError, UnsupportedError } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr4: 0x20, efer: 0xd00 };

describe("views of a memory that its owner grows", () => {
  it.each([
    ["an ordinary one", false],
    ["a shared one", true],
  ])("see the new bytes: %s", (_, shared) => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 16, shared });
    const linear = new LinearMemory(memory, { base: 0x10000, size: 0x10000 });
    linear.u32[0x10000 / 4] = 7;
    memory.grow(4);
    new DataView(memory.buffer).setUint32(7 * 65536, 42, true);
    expect(linear.u8.length).toBe(8 * 65536);
    expect(linear.u64[(7 * 65536) / 8]).toBe(42n);
    expect(linear.u32[(7 * 65536) / 4]).toBe(42);
    expect(linear.u32[0x10000 / 4]).toBe(7);
  });
});

describe("the core in a caller's memory", () => {
  const memory = new WebAssembly.Memory({ initial: 32, maximum: 32 });
  const region = { base: 0x10000, size: 0x20000 };
  const ram = 0x100000;

  it("works inside its region and writes nothing outside but accessed and dirty bits", () => {
    const bytes = new Uint8Array(memory.buffer).fill(0xa5);
    const core = loadSync(undefined, { memory, region });
    new DataView(memory.buffer).setBigUint64(ram + 0x1000, 0x2003n, true);
    new DataView(memory.buffer).setBigUint64(ram + 0x2000, 0x3003n, true);
    new DataView(memory.buffer).setBigUint64(ram + 0x3000, 0x4003n, true);
    new DataView(memory.buffer).setBigUint64(ram + 0x4000, 0x5003n, true);
    const guest = core.createMemory({ slots: [{ gpa: 0, size: 0x100000, linear: ram }] });
    const space = core.createAddressSpace(guest, { ...LONG, cr3: 0x1000 });
    expect(space.translate(0x123, Access.Write)).toMatchObject({ ok: true, pa: 0x5123n });
    expect(guest.readU64(0x4000)).toBe(0x5063n);

    const changed = [...bytes.entries()].filter(
      ([at, value]) => value !== 0xa5 && (at < region.base || at >= region.base + region.size),
    );
    expect(changed.every(([at]) => at >= ram + 0x1000 && at < ram + 0x5000)).toBe(true);
    expect(changed).toHaveLength(4 * 8);
    // The RAM stays the caller's own.
    guest.dispose();
    expect(new DataView(memory.buffer).getBigUint64(ram + 0x4000, true)).toBe(0x5063n);
    core.dispose();
  });

  it("reports a region that is too small with everything as before", () => {
    const core = loadSync(undefined, { memory, region: { base: 0x10000, size: 0x4000 } });
    const before = new Uint8Array(memory.buffer).slice();
    expect(() => core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] })).toThrow(OutOfMemoryError);
    expect(Buffer.compare(before.subarray(0x14000), new Uint8Array(memory.buffer).subarray(0x14000))).toBe(0);
    // What was taken before the failure is free again: a memory that fits can be made.
    core.createMemory({ slots: [{ gpa: 0, size: 0x1000 }] }).dispose();
    core.dispose();
  });

  it.each([
    ["memory without a region", { memory }],
    ["a region without memory", { region }],
    ["a region past the end", { memory, region: { base: 0x1f0000, size: 0x20000 } }],
  ])("refuses %s", (_name, options) => {
    expect(() => loadSync(undefined, options)).toThrow(ConfigError);
  });

  it.each([
    ["misaligned", 0x100],
    ["outside", 0x1ff000],
  ])("refuses RAM at a linear address that is %s", (_name, linear) => {
    const core = loadSync(undefined, { memory, region });
    expect(() => core.createMemory({ slots: [{ gpa: 0, size: 0x2000, linear }] })).toThrow(ConfigError);
    core.dispose();
  });
});

describe("linear memory", () => {
  it("never hands out overlapping ranges, and joins what is freed", () => {
    const commands = fc.array(
      fc.record({
        size: fc.integer({ min: 1, max: 9000 }),
        alignment: fc.constantFrom(16, 64, 4096),
        free: fc.nat(20),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(commands, (steps) => {
        const linear = new LinearMemory(new WebAssembly.Memory({ initial: 4, maximum: 16 }));
        const free = linear.freeBytes;
        const live: { at: number; size: number }[] = [];
        let grown = 0;
        for (const step of steps) {
          const pages = linear.memory.buffer.byteLength;
          try {
            const at = linear.allocate(step.size, step.alignment);
            expect(at % step.alignment).toBe(0);
            for (const one of live) expect(at + step.size <= one.at || one.at + one.size <= at).toBe(true);
            live.push({ at, size: step.size });
          } catch (error) {
            expect(error).toBeInstanceOf(OutOfMemoryError);
          }
          grown += linear.memory.buffer.byteLength - pages;
          const victim = live[step.free];
          if (victim === undefined) continue;
          live.splice(step.free, 1);
          linear.free(victim.at, victim.size);
        }
        for (const one of live) linear.free(one.at, one.size);
        expect(linear.freeBytes).toBe(free + grown);
        expect(() => linear.allocate(free + grown, 16)).not.toThrow();
      }),
      { numRuns: 300, seed: 5 },
    );
  });

  it("zeroes what it hands out again", () => {
    const linear = new LinearMemory(new WebAssembly.Memory({ initial: 1, maximum: 1 }));
    const at = linear.allocate(64);
    linear.u8.fill(0xff, at, at + 64);
    linear.free(at, 64);
    const again = linear.allocate(64);
    expect(again).toBe(at);
    expect(linear.u8.subarray(at, at + 64).every((byte) => byte === 0)).toBe(true);
  });
});

describe("a space", () => {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
  for (const [table, value] of [
    [0x1000, 0x2007n],
    [0x2000, 0x3007n],
    [0x3000, 0x4007n],
    [0x4000, 0x5007n],
    [0x8000, 0x9001n],
    [0x9000, 0xa007n],
    [0xa000, 0xb007n],
  ] as const) {
    memory.writeU64(table, value);
  }

  it("takes new registers, and keeps the old ones where they are refused", () => {
    const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000, maxPhysAddr: 40 });
    expect(space.translate(0)).toMatchObject({ pa: 0x5000n });
    expect(() => space.update({ cr3: 1n << 45n })).toThrow("CR3");
    expect(() => space.update({ maxPhysAddr: 60 })).toThrow(ConfigError);
    expect(space.translate(0)).toMatchObject({ pa: 0x5000n });
    space.update({ cr3: 0x10000 });
    expect(space.translate(0)).toMatchObject({ ok: false, errorCode: 0n });
    space.update({ cr3: 0x8000, efer: 0x800 });
    expect(space.mode).toBe("pae");
    expect(space.translate(0x123)).toMatchObject({ pa: 0xb123n });
    space.dispose();
  });

  it("is as before where an update fails half-way, and the next update does not repeat the failure", () => {
    const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000, maxPhysAddr: 40 });
    // PAE paging whose PDPTEs at 0x1000 have reserved bits: the mode is right, its tables are not.
    expect(() => space.update({ efer: 0x800 })).toThrow("at 0x1000 has reserved bits");
    expect(space.mode).toBe("4level");
    expect(space.translate(0x123)).toMatchObject({ ok: true, pa: 0x5123n });
    expect(space.translateFast(0, 0x123, Access.Read)).toBe(0x5123);
    expect(() => space.update({ cr3: 1n << 45n })).toThrow("CR3");
    space.update({ pkru: 0 });
    expect(space.translate(0x123)).toMatchObject({ ok: true, pa: 0x5123n });
    space.dispose();
  });

  it("latches PDPTEs when registers are loaded and not before", () => {
    const space = core.createAddressSpace(memory, { cr0: 0x80000001, cr3: 0x8000, cr4: 0x20, efer: 0 });
    memory.writeU64(0x8000, 0n);
    expect(space.translate(0)).toMatchObject({ ok: true });
    space.update({ cr3: 0x8000 });
    expect(space.translate(0)).toMatchObject({ ok: false, level: 3 });
    memory.writeU64(0x8000, 0x9007n);
    expect(() => space.update({ cr3: 0x8000 })).toThrow("PDPTE 0x9007 at 0x8000");
    expect(space.translate(0)).toMatchObject({ ok: false, level: 3 });
    memory.writeU64(0x8000, 0x9001n);
  });

  it("cannot be updated where it is a second stage, nor change its own", () => {
    const ept = core.createEpt(memory, { eptp: 0x101e });
    expect(() => ept.update({ cr3: 0 })).toThrow(UnsupportedError);
    const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000 });
    expect(() => space.update({ secondStage: ept })).toThrow(UnsupportedError);
  });

  it("belongs to one core and one memory", () => {
    const other = loadSync();
    const foreign = other.createMemory({ slots: [{ gpa: 0, size: 4096 }] });
    expect(() => core.createAddressSpace(foreign, { ...LONG, cr3: 0x1000 })).toThrow(ConfigError);
    const elsewhere = core.createMemory({ slots: [{ gpa: 0, size: 4096 }] });
    const secondStage = core.createEpt(elsewhere, { eptp: 0x1e });
    expect(() => core.createAddressSpace(memory, { ...LONG, cr3: 0x1000, secondStage })).toThrow(ConfigError);
  });

  it("passes unsigned 64-bit addresses only", () => {
    const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000 });
    for (const bad of [-1, -1n, 1n << 64n, 0.5, 2 ** 53, Number.NaN])
      expect(() => space.translate(bad)).toThrow(RangeError);
    for (const bad of [1, 0x12, 1 << 12, -2, 0.5]) expect(() => space.translate(0, bad)).toThrow(RangeError);
    expect(space.translate(0xfffn)).toMatchObject({ pa: 0x5fffn });
  });

  it("frees its memory: thousands of spaces and memories do not grow the core", () => {
    const make = () => {
      const one = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
      core.createAddressSpace(one, { ...LONG, cr3: 0x1000 }).dispose();
      one.dispose();
    };
    make();
    const size = core.linearMemory.buffer.byteLength;
    for (let round = 0; round < 5000; round++) make();
    expect(core.linearMemory.buffer.byteLength).toBe(size);
  });
});

describe("a batch", () => {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x83n);
  const space = core.createAddressSpace(memory, { ...LONG, cr3: 0x1000 });

  it("needs an output as long as its input", () => {
    expect(() => space.translateBatch(new BigUint64Array(2), new BigUint64Array(1))).toThrow(RangeError);
  });

  it("of nothing is nothing", () => {
    expect(space.translateBatch(new BigUint64Array(0), new BigUint64Array(0))).toBe(0);
  });

  it("goes on behind a fault and counts it", () => {
    const output = new BigUint64Array(3);
    expect(space.translateBatch(BigUint64Array.of(0x10n, 1n << 40n, 0x20n), output)).toBe(1);
    expect([...output]).toEqual([0x10n, (1n << 63n) | (1n << 16n), 0x20n]);
  });

  it("reads missing pages of a source as it meets them", () => {
    const source = {
      asked: [] as bigint[],
      readPage(gfn: bigint, into: Uint8Array) {
        this.asked.push(gfn);
        if (gfn > 2n) return false;
        into.set(memory.read(gfn << 12n, 4096));
        return true;
      },
    };
    const dump = core.createAddressSpace(core.createMemory({ source }), { ...LONG, cr3: 0x1000 });
    const output = new BigUint64Array(2);
    expect(dump.translateBatch(BigUint64Array.of(0x10n, 0x30n), output)).toBe(0);
    expect([...output]).toEqual([0x10n, 0x30n]);
    expect(source.asked).toEqual([1n, 2n]);
    expect(() => dump.memory.write(0, new Uint8Array(1))).toThrow(MemoryRangeError);
  });

  it("goes on where a page was missing, with what was done before left alone", () => {
    const tables = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
    tables.writeU64(0x1000, 0x2007n);
    // Three addresses in three 1 GiB regions, each with a page directory of its own.
    for (let region = 0n; region < 3n; region++) {
      tables.writeU64(0x2000n + 8n * region, ((3n + region) << 12n) | 7n);
      tables.writeU64((3n + region) << 12n, (region << 21n) | 0x87n);
    }
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        into.set(tables.read(gfn << 12n, 4096));
        return true;
      },
    };
    const dump = core.createAddressSpace(core.createMemory({ source }), { ...LONG, cr3: 0x1000 });
    const output = new BigUint64Array(3);
    expect(dump.translateBatch(BigUint64Array.of(0x10n, (1n << 30n) | 0x20n, (2n << 30n) | 0x30n), output)).toBe(0);
    expect([...output]).toEqual([0x10n, 0x200020n, 0x400030n]);
  });

  it("keeps a bounded number of pages", () => {
    // Every table's entries lead to frames of their own.
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        const view = new DataView(into.buffer, into.byteOffset);
        for (let index = 0; index < 512; index++) {
          view.setBigUint64(index * 8, ((gfn * 512n + BigInt(index)) << 12n) | 3n, true);
        }
        return true;
      },
    };
    const dump = core.createAddressSpace(core.createMemory({ source, cachedPages: 64 }), { ...LONG, cr3: 0x1000 });
    dump.translate(0);
    const size = core.linearMemory.buffer.byteLength;
    for (let index = 0n; index < 256n; index++) expect(dump.translate(index << 39n)).toMatchObject({ ok: true });
    expect(core.linearMemory.buffer.byteLength - size).toBeLessThan(64 * 4096 + 65536);
  });
});
