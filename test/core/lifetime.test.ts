/** What is disposed of is gone: it answers with DisposedError, and nothing of it reaches what lies there afterwards. */
import { describe, expect, it } from "vitest";
import { type CoreSpace, loadSync } from "../../src/core/index.js";
import { Access, DisposedError } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const PAE = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0 };

/** 4-level tables that map 0x1000 bytes at 0 to `page`. */
function memoryWith(core: ReturnType<typeof loadSync>, page: bigint) {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  for (const table of [1n, 2n, 3n]) memory.writeU64(table << 12n, ((table + 1n) << 12n) | 7n);
  memory.writeU64(0x4000, page | 7n);
  return memory;
}

const uses: readonly (readonly [string, (space: CoreSpace) => unknown])[] = [
  ["translate", (space) => space.translate(0)],
  ["translateFast", (space) => space.translateFast(0, 0, Access.Read)],
  ["translateFast32", (space) => space.translateFast32(0, Access.Read)],
  ["translateBatch", (space) => space.translateBatch(new BigUint64Array(1), new BigUint64Array(1))],
  ["translateRange", (space) => [...space.translateRange(0, 1)]],
  ["reading bytes", (space) => space.data.read(0, 1)],
  ["writing bytes", (space) => space.data.write(0, Uint8Array.of(1))],
  ["reading a string", (space) => space.data.readString(0, 1)],
  ["reading a value", (space) => space.data.readU32(0)],
  ["writing a value", (space) => space.data.fast.writeU32(0, 0, 1, Access.Write)],
  ["walk", (space) => space.walk(0)],
  ["leaves", (space) => [...space.leaves()]],
  ["leafColumns", (space) => space.leafColumns()],
  ["mappings", (space) => [...space.mappings()]],
  ["update", (space) => space.update({ cr3: 0x2000 })],
  ["writeCr3", (space) => space.writeCr3(0x2000)],
  ["invlpg", (space) => space.invlpg(0)],
  ["invpcid", (space) => space.invpcid(2, 0)],
];

describe.each([
  ["without a software TLB", 0],
  ["with a software TLB", 16],
])("a space %s", (_, tlbEntries) => {
  it.each(uses)("answers %s with DisposedError after it was disposed of, and leaves its successor alone", (_, use) => {
    const core = loadSync();
    const memory = memoryWith(core, 0x5000n);
    const first = core.createAddressSpace(memory, { ...LONG, tlbEntries });
    expect(first.translateFast(0, 0, Access.Read)).toBe(0x5000);
    first.dispose();
    first.dispose();
    const second = core.createAddressSpace(memory, { ...LONG, tlbEntries });
    expect(() => use(first)).toThrow(DisposedError);
    expect(second.translateFast(0, 0, Access.Read)).toBe(0x5000);
  });

  it.each(uses)("ends with its memory: %s", (_, use) => {
    const core = loadSync();
    const memory = memoryWith(core, 0x5000n);
    const space = core.createAddressSpace(memory, { ...LONG, tlbEntries });
    memory.dispose();
    memoryWith(core, 0x6000n);
    expect(() => use(space)).toThrow(DisposedError);
  });
});

it("a space ends with its second stage", () => {
  const core = loadSync();
  const memory = memoryWith(core, 0x5000n);
  const ept = core.createEpt(memory, { eptp: 0x101e });
  const space = core.createAddressSpace(memory, { ...LONG, secondStage: ept });
  ept.dispose();
  expect(() => space.translate(0)).toThrow(DisposedError);
  expect(() => core.createAddressSpace(memory, { ...LONG, secondStage: ept })).toThrow(DisposedError);
});

it("a memory that was disposed of is neither read, written nor walked", () => {
  const core = loadSync();
  const memory = memoryWith(core, 0x5000n);
  memory.dispose();
  memory.dispose();
  for (const use of [
    () => memory.read(0, 8),
    () => memory.write(0, new Uint8Array(8)),
    () => memory.readU32(0),
    () => memory.readInto(0, new Uint8Array(8)),
    () => memory.readString(0, 8),
    () => memory.readU8(0),
    () => memory.writeU16(0, 1),
    () => memory.readU64(0),
    () => memory.writeU32(0, 1),
    () => memory.writeU64(0, 1n),
    () => core.createAddressSpace(memory, LONG),
    () => core.createEpt(memory, { eptp: 0x101e }),
    () => core.createNpt(memory, { ncr3: 0x1000 }),
  ]) {
    expect(use).toThrow(DisposedError);
  }
});

it("disposing of everything, in any order and twice, gives the linear memory back once", () => {
  const core = loadSync();
  const { linear } = core.internals();
  const make = () => {
    const memory = memoryWith(core, 0x5000n);
    const ept = core.createEpt(memory, { eptp: 0x101e });
    const space = core.createAddressSpace(memory, { ...LONG, secondStage: ept });
    const cached = core.createAddressSpace(memory, { ...LONG, tlbEntries: 64 });
    return [memory, ept, space, cached];
  };
  for (const made of make()) made.dispose();
  const free = linear.freeBytes;
  for (let round = 0; round < 50; round++) {
    const made = make();
    if (round % 2) made.reverse();
    for (const one of [...made, ...made]) one.dispose();
    expect(linear.freeBytes).toBe(free);
  }
});

it("an enumeration stops where its space goes, and gives back what it took", () => {
  const core = loadSync();
  const { linear } = core.internals();
  const memory = memoryWith(core, 0x5000n);
  memory.writeU64(0x4008, 0x6007n);
  const free = linear.freeBytes;
  const space = core.createAddressSpace(memory, LONG);
  const leaves = space.leaves();
  expect(leaves.next().value).toMatchObject({ pa: 0x5000n });
  space.dispose();
  expect(() => leaves.next()).toThrow(DisposedError);
  expect(linear.freeBytes).toBe(free);
});

it("a source that disposes of the memory in mid-walk ends the walk", () => {
  const core = loadSync();
  const { linear } = core.internals();
  const free = linear.freeBytes;
  const source = {
    readPage(_: bigint, into: Uint8Array) {
      into.fill(0);
      memory.dispose();
      return true;
    },
  };
  let memory: ReturnType<typeof core.createMemory>;
  for (const use of [
    ...uses.filter(([name]) => /translate|walk|leaves|mappings/.test(name)),
    ["pdptes", (space: CoreSpace) => space.update(PAE)],
  ] as const) {
    memory = core.createMemory({ source });
    const space = core.createAddressSpace(memory, LONG);
    expect(() => use[1](space), use[0]).toThrow(DisposedError);
  }
  memory = core.createMemory({ source });
  expect(() => core.createAddressSpace(memory, PAE)).toThrow(DisposedError);
  memory = core.createMemory({ source });
  expect(() => memory.read(0, 8)).toThrow(DisposedError);
  expect(linear.freeBytes).toBe(free);
});
