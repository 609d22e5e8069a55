/**
 * Every public method of the Wasm core with arguments that make no sense: a typed error, if any, and the core goes on. A method
 * that is new has to be listed here.
 */
import { describe, expect, it } from "vitest";
import { Core } from "../../src/core/core.js";
import { BatchBuffer, CoreMemory, CoreSpace, loadSync, SpaceMemory } from "../../src/index.js";
import {
  ENGINE_USES,
  type EngineMachine,
  MEMORY_USES,
  machineOf,
  REGISTERS,
  SPACE_USES,
  SPARE,
  type Uses,
} from "../engine-uses.js";
import { expectTypedAnswers, methodsOf } from "../odd-values.js";

interface Machine extends EngineMachine {
  readonly core: Core;
  readonly tlb: CoreSpace;
  readonly buffer: BatchBuffer;
}

function machine(): Machine {
  const core = loadSync();
  const made = machineOf(core);
  const tlb = core.createAddressSpace(made.memory, { ...REGISTERS, tlbEntries: 64 });
  return { ...made, core, tlb, buffer: core.allocateBatch(4) };
}

const four = () => new BigUint64Array(4);
const region = (odd: object) =>
  loadSync(undefined, { memory: new WebAssembly.Memory({ initial: 8 }), region: { base: 0, size: 65536, ...odd } });

const CORE: Uses<Machine> = {
  ...ENGINE_USES,
  internals: [],
  dispose: [],
  allocateBatch: [({ core }, odd) => core.allocateBatch(odd)],
  allocateColumns: [({ core }, odd) => core.allocateColumns(odd)],
  createMemory: [
    ...ENGINE_USES.createMemory!,
    ({ core }, odd) => core.createMemory({ slots: [{ gpa: 0, size: 4096, linear: odd }] }),
    ({ core }, odd) => core.createMemory({ slots: [{ gpa: 0, size: 4096, linear: 0, window: odd }] }),
    ({ core }, odd) => core.createMemory({ source: { readPage: () => true }, cachedPages: odd }),
  ],
};

const slotted = (memory: unknown) => memory as CoreMemory;

const MEMORY: Uses<Machine> = {
  ...MEMORY_USES,
  // For what lives in a memory.
  adopt: [],
  parts: [],
  attach: [],
  detach: [],
  requireLive: [],
  supply: [],
  dispose: [],
  busAddress: [],
  sourcePage: [],
  readInto: [
    ({ memory }, odd) => slotted(memory).readInto(odd, new Uint8Array(8)),
    ({ memory }, odd) => slotted(memory).readInto(0, odd),
  ],
  readString: [
    ({ memory }, odd) => slotted(memory).readString(odd, 8),
    ({ memory }, odd) => slotted(memory).readString(0, odd),
  ],
  readU8: [({ memory }, odd) => slotted(memory).readU8(odd)],
  readU16: [({ memory }, odd) => slotted(memory).readU16(odd)],
  writeU8: [
    ({ memory }, odd) => slotted(memory).writeU8(odd, 0),
    ({ memory }, odd) => slotted(memory).writeU8(SPARE, odd),
  ],
  writeU16: [
    ({ memory }, odd) => slotted(memory).writeU16(odd, 0),
    ({ memory }, odd) => slotted(memory).writeU16(SPARE, odd),
  ],
  addSlot: [
    ({ memory }, odd) => slotted(memory).addSlot(odd),
    ({ memory }, odd) => slotted(memory).addSlot({ gpa: odd, size: 4096 }),
    ({ memory }, odd) => slotted(memory).addSlot({ gpa: 1 << 30, size: odd }),
  ],
  removeSlot: [({ memory }, odd) => slotted(memory).removeSlot(odd)],
  changeSlot: [
    ({ memory }, odd) => slotted(memory).changeSlot(odd, {}),
    ({ memory }, odd) => slotted(memory).changeSlot(0, odd),
    ({ memory }, odd) => slotted(memory).changeSlot(0, { gpa: odd }),
    ({ memory }, odd) => slotted(memory).changeSlot(0, { readOnly: odd }),
    ({ memory }, odd) => slotted(memory).changeSlot(0, { linear: odd }),
  ],
  invalidatePage: [({ memory }, odd) => slotted(memory).invalidatePage(odd)],
  watchWrites: [
    ({ memory }, odd) => slotted(memory).watchWrites(odd, 8),
    ({ memory }, odd) => slotted(memory).watchWrites(SPARE, odd),
  ],
  unwatchWrites: [
    ({ memory }, odd) => slotted(memory).unwatchWrites(odd, 8),
    ({ memory }, odd) => slotted(memory).unwatchWrites(SPARE, odd),
  ],
  takeWritten: [],
};

const SPACE: Uses<Machine> = {
  ...SPACE_USES,
  lastPageBytes: [],
  translateRange: [
    ({ tlb }, odd) => tlb.translateRange(odd, 8).next(),
    ({ tlb }, odd) => tlb.translateRange(0, odd).next(),
    ({ tlb }, odd) => tlb.translateRange(0, 8, odd).next(),
  ],
  // The fast calls check nothing, and say so.
  translateFast: [],
  translateFast32: [],
  translateLine: [],
  leaves: [],
  leafColumns: [({ tlb }, odd) => tlb.leafColumns().fill(odd)],
  mappings: [],
  dispose: [],
  adopt: [],
  parts: [],
  memoryChanged: [],
  update: [
    ({ tlb }, odd) => tlb.update(odd),
    ({ tlb }, odd) => tlb.update({ cr3: odd }),
    ({ tlb }, odd) => tlb.update({ secondStage: odd }),
    ({ tlb }, odd) => tlb.update({ tlbEntries: odd }),
  ],
  useMemory: [({ tlb }, odd) => tlb.useMemory(odd)],
  setPkru: [({ tlb }, odd) => tlb.setPkru(odd)],
  setPkrs: [({ tlb }, odd) => tlb.setPkrs(odd)],
  writeCr3: [({ tlb }, odd) => tlb.writeCr3(odd)],
  invlpg: [({ tlb }, odd) => tlb.invlpg(odd)],
  invpcid: [
    ({ tlb }, odd) => tlb.invpcid(odd, 0, 0),
    ({ tlb }, odd) => tlb.invpcid(1, odd, 0),
    ({ tlb }, odd) => tlb.invpcid(0, 0, odd),
  ],
  translateBatch: [
    ({ tlb }, odd) => tlb.translateBatch(odd, four()),
    ({ tlb }, odd) => tlb.translateBatch(four(), odd),
    ({ tlb }, odd) => tlb.translateBatch(four(), four(), odd),
    ({ tlb }, odd) => tlb.translateBatch(four(), four(), 0, odd),
  ],
  translateBuffer: [
    ({ tlb }, odd) => tlb.translateBuffer(odd),
    ({ tlb, buffer }, odd) => tlb.translateBuffer(buffer, odd),
    ({ tlb, buffer }, odd) => tlb.translateBuffer(buffer, 0, odd),
    ({ tlb, buffer }, odd) => tlb.translateBuffer(buffer, 0, "auto", odd),
  ],
};

/** Linear addresses that are not mapped: nothing that is meant to be refused may write. */
const NOWHERE = 1n << 46n;
const READS = ["readU8", "readU16", "readU32", "readU64"] as const;
const WRITES = ["writeU8", "writeU16", "writeU32", "writeU64"] as const;
const DATA: Uses<Machine> = {
  // For the space.
  moveTo: [],
  read: [
    ({ space }, odd) => dataOf(space).read(odd, 8),
    ({ space }, odd) => dataOf(space).read(NOWHERE, odd),
    ({ space }, odd) => dataOf(space).read(0, 8, odd),
  ],
  readInto: [
    ({ space }, odd) => dataOf(space).readInto(odd, new Uint8Array(8)),
    ({ space }, odd) => dataOf(space).readInto(0, odd),
    ({ space }, odd) => dataOf(space).readInto(0, new Uint8Array(8), odd),
  ],
  readString: [
    ({ space }, odd) => dataOf(space).readString(odd, 8),
    ({ space }, odd) => dataOf(space).readString(0, odd),
    ({ space }, odd) => dataOf(space).readString(0, 8, odd),
  ],
  write: [
    ({ space }, odd) => dataOf(space).write(odd, new Uint8Array(0)),
    ({ space }, odd) => dataOf(space).write(NOWHERE, odd),
    ({ space }, odd) => dataOf(space).write(NOWHERE, new Uint8Array(8), odd),
  ],
  ...Object.fromEntries(
    READS.map((name) => [
      name,
      [
        ({ space }: Machine, odd: never) => dataOf(space)[name](odd),
        ({ space }: Machine, odd: never) => dataOf(space)[name](0, odd),
      ],
    ]),
  ),
  ...Object.fromEntries(
    WRITES.map((name) => [
      name,
      [
        ({ space }: Machine, odd: never) => dataOf(space)[name](odd, (256 ** 8) as never),
        ({ space }: Machine, odd: never) => dataOf(space)[name](NOWHERE, odd),
        ({ space }: Machine, odd: never) => dataOf(space)[name](NOWHERE, 0, odd),
      ],
    ]),
  ),
};

function dataOf(space: unknown): SpaceMemory {
  return (space as CoreSpace).data;
}

describe.each<[string, { readonly prototype: object }, Uses<Machine>]>([
  ["Core", Core, CORE],
  ["CoreMemory", CoreMemory, MEMORY],
  ["CoreSpace", CoreSpace, SPACE],
  ["SpaceMemory", SpaceMemory, DATA],
  ["BatchBuffer", BatchBuffer, { dispose: [] }],
])("arguments of %s that make no sense", (_, type, uses) => {
  it("are tried of every method", () => {
    expect(Object.keys(uses).sort()).toEqual(methodsOf(type));
  });

  it.each(Object.entries(uses))("get a typed error of %s, if any, and everything goes on", (name, list) => {
    const made = machine();
    list.forEach((use, index) => {
      expectTypedAnswers(`${name}, use ${index}`, (odd) => use(made, odd));
    });
    made.tlb.update(REGISTERS);
    for (const space of [made.space, made.tlb]) {
      expect(space.translate(0x1234)).toMatchObject({ ok: true, pa: 0x20_1234n });
    }
  });
});

describe("options of the core that make no sense", () => {
  it.each<[string, (odd: never) => unknown]>([
    ["options", (odd) => loadSync(undefined, odd)],
    ["memory", (odd) => loadSync(undefined, { memory: odd, region: { base: 0, size: 65536 } })],
    ["region", (odd) => loadSync(undefined, { memory: new WebAssembly.Memory({ initial: 8 }), region: odd })],
    ["region.base", (odd) => region({ base: odd })],
    ["region.size", (odd) => region({ size: odd })],
  ])("get a typed error: %s", (name, use) => {
    expectTypedAnswers(name, use);
  });
});
