/** What is made and disposed of again and again leaves nothing behind, in linear memory and in the heap. CYCLES=100000 for long. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { type Core, loadSync } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { createMachine, createMemory, createSpace, saveMachine, saveMemory, saveSpace } from "../../src/state/index.js";

const CYCLES = Number(process.env.CYCLES ?? 400);
/** Heap that many cycles may grow by: what the engine keeps of code that has become hot. */
const MOST_GROWTH = 1.5 * 2 ** 20;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const REGISTERS = { cr0: 0x8001_0001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const VM_REGISTERS = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
const source = { readPage: () => false };

function guest(core: Core) {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
  return { memory, space: core.createAddressSpace(memory, { ...REGISTERS, tlbEntries: 16 }) };
}

function machine(core: Core): VirtualMachine {
  const vm = new VirtualMachine(core, { eventCapacity: 10 });
  vm.setSlot({ id: 0, gpa: 0n, size: 0x4000, ram: vm.createRam(0x4000) });
  const vcpu = vm.createVcpu(VM_REGISTERS);
  vcpu.enterGuest();
  vcpu.pageFault(0x1000n, 2);
  return vm;
}

const states = (() => {
  const core = loadSync();
  const { memory, space } = guest(core);
  return {
    memory: saveMemory(memory, { ram: true }),
    space: saveSpace(space),
    machine: saveMachine(machine(loadSync())),
  };
})();
const sharedCore = loadSync();
const shared = guest(sharedCore);

const kinds: readonly (readonly [string, (core: Core) => void])[] = [
  ["memories", (core) => core.createMemory({ slots: [{ gpa: 0, size: 0x1000 }], source }).dispose()],
  ["spaces over a memory that stays", () => sharedCore.createAddressSpace(shared.memory, REGISTERS).dispose()],
  [
    "spaces with their memory, and a second stage",
    (core) => {
      const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
      const secondStage = core.createEpt(memory, { eptp: 0x101e });
      core.createAddressSpace(memory, { ...REGISTERS, secondStage }).translate(0);
      memory.dispose();
    },
  ],
  [
    "TLBs and settings that were kept",
    (core) => {
      const { memory, space } = guest(core);
      for (const cr4 of [0xa0, 0x20, 0x10_0020]) space.update({ cr4 });
      space.translateFast(0, 0, 0);
      space[Symbol.dispose]();
      memory[Symbol.dispose]();
    },
  ],
  ["batch buffers", (core) => core.allocateBatch(64).dispose()],
  ["virtual machines", (core) => machine(core).dispose()],
  [
    "what is made of states",
    (core) => {
      const memory = createMemory(core, states.memory);
      createSpace(core, memory, states.space).dispose();
      memory.dispose();
      createMachine(core, { eventCapacity: 10 }, states.machine).dispose();
    },
  ],
];

describe(`${CYCLES} times`, () => {
  it.each(kinds)("%s leave nothing", { timeout: 3_600_000 }, (_, cycle) => {
    const core = loadSync();
    const repeat = (times: number) => {
      for (let time = 0; time < times; time++) cycle(core);
      collect();
      const { linear } = core.internals();
      return { heap: process.memoryUsage().heapUsed, bytes: linear.memory.buffer.byteLength, free: linear.freeBytes };
    };
    repeat(100);
    const before = repeat(Math.ceil(CYCLES / 4));
    const after = repeat(CYCLES);
    expect(after.bytes).toBe(before.bytes);
    expect(after.free).toBe(before.free);
    expect(after.heap - before.heap).toBeLessThan(MOST_GROWTH);
  });

  it("cores in a region of the same memory", { timeout: 3_600_000 }, () => {
    const memory = new WebAssembly.Memory({ initial: 16 });
    for (let time = 0; time < CYCLES / 10; time++) {
      loadSync(undefined, { memory, region: { base: 0x10000, size: 0x10000 } }).dispose();
    }
    expect(memory.buffer.byteLength).toBe(16 * 65536);
  });
});

it("everything that can be disposed of has Symbol.dispose, which does the same", () => {
  const core = loadSync();
  const { memory, space } = guest(core);
  const all = [space, memory, core.allocateBatch(1), machine(core), core];
  for (const one of all) {
    one[Symbol.dispose]();
    one.dispose();
  }
  expect(() => core.createMemory({})).toThrow();
  expect(() => space.translate(0)).toThrow();
});

it("what is asked for at a place lies there, if that is free, aligned and of the size", () => {
  const { linear } = loadSync().internals();
  const at = (address: number, size = 64) => linear.atPlaces([{ address, size }], () => linear.allocate(64, 64));
  expect(at(0x8000)).toBe(0x8000);
  for (const address of [0x8000, 0x8010, 0x9007, 0x10_0000_0000]) expect(at(address) % 64).toBe(0);
  expect(at(0xa000, 128)).not.toBe(0xa000);
  expect(at(0x8020)).not.toBe(0x8020);
});
