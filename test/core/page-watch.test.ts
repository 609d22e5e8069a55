/** Pages whose writes are noted, by everything in the core that writes guest memory. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import { type Core, loadSync, ResultFlag, ResultLine } from "../../src/core/index.js";
import { MemoryRangeError } from "../../src/errors.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const RAM = 0x40000;

/** Page n of the first 64 is mapped onto itself by a level-1 table at 0x4000; no flag is set yet. */
function machine(core: Core = loadSync()) {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: RAM }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  memory.writeU64(0x3000, 0x4007n);
  for (let page = 0n; page < 64n; page++) memory.writeU64(0x4000n + 8n * page, (page << 12n) | 7n);
  return { core, memory, space: core.createAddressSpace(memory, LONG) };
}

describe("watchWrites", () => {
  it("notes the tables in which a walk sets flags, once each", () => {
    const { core, memory, space } = machine();
    memory.watchWrites(0, RAM);
    expect(core.writtenPages).toBe(0);
    space.translate(0x5000, Access.Read | Access.Probe);
    space.walk(0x5000);
    expect(memory.takeWritten()).toEqual([]);
    space.translateFast(0, 0x5000, Access.Read);
    expect(core.writtenPages).toBe(4);
    expect(memory.takeWritten()).toEqual([1n, 2n, 3n, 4n]);
    expect(core.writtenPages).toBe(0);
    // The dirty flag alone, by a batch.
    space.translateBatch(BigUint64Array.of(0x5000n), new BigUint64Array(1), Access.Write);
    expect(memory.takeWritten()).toEqual([4n]);
    space.translateFast(0, 0x5000, Access.Write);
    expect(memory.takeWritten()).toEqual([]);
  });

  it.each<[string, (fast: ReturnType<typeof machine>["space"]["data"]) => unknown, bigint[]]>([
    ["writeU8", ({ fast }) => fast.writeU8(0, 0x6007, 1, 0), [6n]],
    ["writeU16", ({ fast }) => fast.writeU16(0, 0x6007, 1, 0), [6n]],
    ["writeU32", ({ fast }) => fast.writeU32(0, 0x6004, 1, 0), [6n]],
    ["writeU64", ({ fast }) => fast.writeU64(0, 0x6008, 1, 2, 0), [6n]],
    ["writeU32 across pages", ({ fast }) => fast.writeU32(0, 0x6ffe, 1, 0), [6n, 7n]],
    ["writeU64 across pages", ({ fast }) => fast.writeU64(0, 0x6ffc, 1, 2, 0), [6n, 7n]],
    ["write", (data) => data.write(0x6ff0, new Uint8Array(0x2020)), [6n, 7n, 8n, 9n]],
    ["write of whole pages", (data) => data.write(0x6000, new Uint8Array(0x2000)), [6n, 7n]],
    ["write of nothing", (data) => data.write(0x6000, new Uint8Array(0)), []],
  ])("notes data.%s", (_, write, expected) => {
    const { memory, space } = machine();
    space.translateBatch(
      BigUint64Array.from({ length: 64 }, (_, i) => BigInt(i) << 12n),
      new BigUint64Array(64),
      Access.Write,
    );
    memory.watchWrites(0, RAM);
    write(space.data);
    expect(memory.takeWritten()).toEqual(expected);
    write(space.data);
    expect(memory.takeWritten()).toEqual(expected);
  });

  it("notes what the memory writes itself", () => {
    const { memory } = machine();
    memory.watchWrites(0x8000, 0x3000);
    memory.writeU64(0x8ffc, 1n);
    memory.write(0xaffe, new Uint8Array(4));
    expect(memory.takeWritten()).toEqual([8n, 9n, 10n]);
  });

  it("concerns the pages that the range touches, until it ends", () => {
    const { core, memory, space } = machine();
    space.data.writeU8(0, 1);
    const free = core.internals().linear.freeBytes;
    memory.watchWrites(0x6fff, 2);
    const writeAll = () => {
      for (let page = 5; page < 9; page++) space.data.writeU8(page << 12, 1);
    };
    writeAll();
    expect(core.writtenPages).toBe(2);
    expect(memory.takeWritten()).toEqual([6n, 7n]);
    writeAll();
    memory.unwatchWrites(0x6000, 1);
    expect(core.writtenPages).toBe(1);
    writeAll();
    expect(memory.takeWritten()).toEqual([7n]);
    memory.unwatchWrites(0, RAM);
    writeAll();
    expect(core.writtenPages).toBe(0);
    expect(memory.takeWritten()).toEqual([]);
    expect(core.internals().linear.freeBytes).toBe(free);
  });

  it("is of the RAM: another memory over it sees the write, and where it is gone nothing is left", () => {
    const core = loadSync();
    const { linear } = core.internals();
    const ram = linear.lend(RAM, 4096);
    const one = core.createMemory({ slots: [{ gpa: 0, size: RAM, linear: ram }] });
    const other = core.createMemory({ slots: [{ gpa: 0x10_0000, size: RAM, linear: ram }] });
    one.watchWrites(0x3000, 0x1000);
    other.writeU8(0x10_3abc, 1);
    expect(one.takeWritten()).toEqual([3n]);
    const owned = core.createMemory({ slots: [{ gpa: 0, size: RAM }] });
    owned.watchWrites(0, RAM);
    owned.writeU8(0x5000, 1);
    owned.dispose();
    expect(core.writtenPages).toBe(0);
  });

  it("goes along with RAM that is resized, and covers memory that has grown", () => {
    const { core, memory } = machine();
    memory.watchWrites(0x5000, 0x2000);
    memory.writeU8(0x5000, 1);
    memory.changeSlot(0, { size: 32 << 20 });
    expect(core.writtenPages).toBe(1);
    memory.writeU8(0x6000, 1);
    memory.writeU8(0x7000, 1);
    expect(memory.takeWritten()).toEqual([5n, 6n]);
    memory.watchWrites(0x100_0000, 4096);
    memory.writeU8(0x100_0fff, 1);
    expect(memory.takeWritten()).toEqual([0x1000n]);
    memory.changeSlot(0, { gpa: 0x1000 });
    memory.writeU8(0x6000, 1);
    expect(memory.takeWritten()).toEqual([6n]);
  });

  it("shows in result lines, of either walk", () => {
    const { core, memory, space } = machine();
    memory.watchWrites(0x6000, 0x1000);
    const watched = (address: number) => {
      expect(space.translateLine(0, address, Access.Read)).toBe(0);
      return (core.resultLine[ResultLine.flags]! & ResultFlag.watched) !== 0;
    };
    // The full walk sets the accessed flags, the fast one finds them set.
    for (let round = 0; round < 2; round++)
      expect([0x5fff, 0x6000, 0x6fff, 0x7000].map(watched)).toEqual([false, true, true, false]);
    memory.writeU8(0x6000, 1);
    expect(watched(0x6000)).toBe(true);
    memory.unwatchWrites(0x6000, 1);
    expect(watched(0x6000)).toBe(false);
    // A frame without RAM is nobody's.
    memory.writeU64(0x4000 + 8 * 9, 0x7000_0067n);
    memory.watchWrites(0, 4096);
    expect(watched(0x9000)).toBe(false);
  });

  it("refuses what is not backed, with nothing watched", () => {
    const { core, memory } = machine();
    expect(() => memory.watchWrites(RAM - 0x1000, 0x2000)).toThrow(MemoryRangeError);
    expect(() => memory.watchWrites(0, -1)).toThrow(RangeError);
    expect(() => memory.watchWrites(0, 1.5)).toThrow(RangeError);
    expect(() => memory.unwatchWrites(RAM, 1)).toThrow(MemoryRangeError);
    memory.writeU8(RAM - 0x1000, 1);
    expect(core.writtenPages).toBe(0);
    memory.watchWrites(0, 0);
    expect(memory.takeWritten()).toEqual([]);
  });
});
