/**
 * Every public method of the Wasm core with arguments that make no sense: a typed error, if any, and the core goes on. A method
 * that is new has to be listed here.
 */
import { describe, expect, it } from "vitest";
import { Core } from "../../src/core/core.js";
import { BatchBuffer, CoreMemory, CoreSpace, loadSync } from "../../src/index.js";
import {
  ENGINE_USES,
  type EngineMachine,
  MEMORY_USES,
  machineOf,
  REGISTERS,
  SPACE_USES,
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
  attach: [],
  detach: [],
  requireLive: [],
  supply: [],
  dispose: [],
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
};

const SPACE: Uses<Machine> = {
  ...SPACE_USES,
  // The fast calls check nothing, and say so.
  translateFast: [],
  translateFast32: [],
  translateLine: [],
  leaves: [],
  mappings: [],
  dispose: [],
  memoryChanged: [],
  update: [
    ({ tlb }, odd) => tlb.update(odd),
    ({ tlb }, odd) => tlb.update({ cr3: odd }),
    ({ tlb }, odd) => tlb.update({ secondStage: odd }),
    ({ tlb }, odd) => tlb.update({ tlbEntries: odd }),
  ],
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

describe.each<[string, { readonly prototype: object }, Uses<Machine>]>([
  ["Core", Core, CORE],
  ["CoreMemory", CoreMemory, MEMORY],
  ["CoreSpace", CoreSpace, SPACE],
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
