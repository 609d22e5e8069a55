/** The candidates that translate: each takes the next batch of its addresses in every run. */
import type { CoreSpace } from "../src/core/index.js";
import { SPACE_OFFSET, SpaceRecord } from "../src/core/records/walk.js";
import { createReference } from "../src/reference/index.js";
import { type JavaScriptSpace, translate, translateBatch } from "./javascript.js";
import { BATCH, type Machine } from "./machine.js";
import { attachNative, type Native } from "./native.js";
import type { Candidate } from "./rounds.js";

/** Addresses in linear memory with room for a batch of results, and their halves for single calls. */
export interface Workload {
  readonly machine: Machine;
  readonly count: number;
  readonly access: number;
  readonly input: number;
  readonly output: number;
  readonly halves: Uint32Array;
  readonly wide: BigUint64Array;
}

export function prepare(machine: Machine, wide: BigUint64Array, access: number): Workload {
  const { linear } = machine.core.internals();
  const input = linear.allocate(wide.byteLength, 64);
  const output = linear.allocate(BATCH * 8, 64);
  linear.u64.set(wide, input / 8);
  return { machine, count: wide.length, access, input, output, halves: new Uint32Array(wide.buffer), wide };
}

export function release({ machine, wide, input, output }: Workload): void {
  const { linear } = machine.core.internals();
  linear.free(input, wide.byteLength);
  linear.free(output, BATCH * 8);
}

/** A function that gives the index of the next batch's first address; candidates begin at different places. */
function turns(load: Workload, place: number): () => number {
  let at = Math.floor((place * load.count) / 16 / BATCH) * BATCH;
  return () => {
    at = at + BATCH >= load.count ? 0 : at + BATCH;
    return at;
  };
}

export function nativeLoop(native: Native, load: Workload): Candidate {
  const next = turns(load, 0);
  attachNative(native, load.machine);
  const { input, output, access } = load;
  return { name: "native C", work: BATCH, run: () => native.batch(input + next() * 8, output, BATCH, access) };
}

/** By the core's plans: what the same technique gives in C. */
export function nativeByPlan(native: Native, load: Workload): Candidate[] {
  const { input, output, access } = load;
  const next = [turns(load, 5), turns(load, 6)] as const;
  return [
    {
      name: "native C by plans",
      work: BATCH,
      run: () => native.batchByPlan(input + next[0]() * 8, output, BATCH, access),
    },
    {
      name: "native C by plans, in blocks",
      work: BATCH,
      run: () => native.blocks(input + next[1]() * 8, output, BATCH, access),
    },
  ];
}

export function coreBatch(load: Workload, name = "core, batch", kernel = 0): Candidate {
  const next = turns(load, 1);
  const { exports } = load.machine.core.internals();
  const { input, output, access } = load;
  const { pointer } = load.machine.space;
  return {
    name,
    work: BATCH,
    run() {
      exports.translateBatch(pointer, input + next() * 8, output, BATCH, access, kernel);
    },
  };
}

/**
 * The loop around a single call. One function for all sections of a run, with what it uses as arguments: a closure a
 * section would be compiled for the first one's constants, and more slowly from the second on.
 */
function translateEach(space: CoreSpace, halves: Uint32Array, first: number, access: number): number {
  let sum = 0;
  for (let at = first; at < first + 2 * BATCH; at += 2)
    sum += space.translateFast(halves[at + 1]!, halves[at]!, access);
  return sum;
}

export function coreSingle(load: Workload, name = "core, single call"): Candidate {
  const next = turns(load, 2);
  const { halves, access } = load;
  const { space } = load.machine;
  let sum = 0;
  return {
    name,
    work: BATCH,
    run() {
      sum += translateEach(space, halves, next() * 2, access);
      if (Number.isNaN(sum)) throw new Error("not a number");
    },
  };
}

export function javaScriptSpace({ core, space, ramLinear, ramSize }: Machine): JavaScriptSpace {
  const { linear } = core.internals();
  const record = new SpaceRecord(linear, space.pointer);
  return {
    words: linear.u32,
    ramLinear,
    ramSize,
    root: Number(record.root),
    highWidth: record.maxphyaddr - 32,
    permissions: new Uint16Array(linear.memory.buffer, record.at + SPACE_OFFSET.permissions, 16),
    fetchCode: record.fetchCode,
  };
}

export function javaScriptBatch(load: Workload): Candidate {
  const next = turns(load, 3);
  const { input, output, access } = load;
  const space = javaScriptSpace(load.machine);
  return {
    name: "JavaScript, batch",
    work: BATCH,
    run: () => translateBatch(space, input + next() * 8, output, BATCH, access),
  };
}

export function javaScriptSingle(load: Workload): Candidate {
  const next = turns(load, 4);
  const { halves, access } = load;
  const space = javaScriptSpace(load.machine);
  let sum = 0;
  return {
    name: "JavaScript, single call",
    work: BATCH,
    run() {
      const first = next() * 2;
      let part = 0;
      for (let at = first; at < first + BATCH * 2; at += 2)
        part += translate(space, halves[at + 1]! | 0, halves[at]! | 0, access);
      sum += part;
      if (Number.isNaN(sum)) throw new Error("not a number");
    },
  };
}

/** The BigInt reference over a copy of the tables; few addresses a run, as it is slow. */
export function referenceSingle(load: Workload): Candidate {
  const { machine, wide, access } = load;
  const reference = createReference();
  const memory = reference.createMemory({ slots: [{ gpa: 0, size: machine.ramSize }] });
  for (let at = 0; at < machine.ramSize; at += 1 << 20)
    memory.write(at, machine.memory.read(at, Math.min(1 << 20, machine.ramSize - at)));
  const { linear } = machine.core.internals();
  const { cr3 } = new SpaceRecord(linear, machine.space.pointer);
  const space = reference.createAddressSpace(memory, { cr0: 0x80010001, cr3, cr4: 0x20, efer: 0xd00, maxPhysAddr: 46 });
  let at = 0;
  return {
    name: "BigInt reference",
    work: 64,
    run() {
      for (let index = 0; index < 64; index++) space.translate(wide[at + index]!, access);
      at = at + 64 >= load.count ? 0 : at + 64;
    },
  };
}
