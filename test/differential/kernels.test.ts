import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import type { PageSource } from "../../src/api.js";
import { type Core, type CoreMemory, type CoreSpace, decodeFault, loadSync } from "../../src/core/index.js";
import { PagingError } from "../../src/errors.js";
import { type AccessStep, type Scenario, scenarios } from "../../src/fuzz/index.js";

const core = loadSync();
const HIGH = 1n << 63n;

/** A scenario's memory and the space that its accesses go to; undefined where the registers are refused. */
function build(engine: Core, scenario: Scenario): { memory: CoreMemory; spaces: CoreSpace[] } | undefined {
  const memory = engine.createMemory({ slots: scenario.slots });
  for (const entry of scenario.entries) {
    if (!scenario.slots.some((slot) => entry.address >= slot.gpa && entry.address < slot.gpa + BigInt(slot.size)))
      continue;
    if (entry.bytes === 4) memory.writeU32(entry.address, Number(entry.value));
    else memory.writeU64(entry.address, entry.value);
  }
  const spaces = createSpaces(engine, memory, scenario);
  if (spaces === undefined) memory.dispose();
  return spaces && { memory, spaces };
}

function createSpaces(engine: Core, memory: CoreMemory, { second, guest }: Scenario): CoreSpace[] | undefined {
  const spaces: CoreSpace[] = [];
  try {
    if (second?.kind === "ept") spaces.push(engine.createEpt(memory, second.config));
    if (second?.kind === "npt") spaces.push(engine.createNpt(memory, second.config));
    const secondStage = spaces[0];
    if (guest) spaces.push(engine.createAddressSpace(memory, secondStage ? { ...guest, secondStage } : guest));
    return spaces;
  } catch (error) {
    for (const space of spaces) space.dispose();
    if (error instanceof PagingError) return undefined;
    throw error;
  }
}

/** Runs `check` over random scenarios; refused ones are passed over. */
function overScenarios(
  runs: number,
  check: (space: CoreSpace, steps: readonly AccessStep[], memory: CoreMemory) => void,
): void {
  const property = fc.property(scenarios, (scenario) => {
    const built = build(core, scenario);
    if (built === undefined) return;
    try {
      check(built.spaces.at(-1)!, scenario.accesses, built.memory);
    } finally {
      for (const space of built.spaces) space.dispose();
      built.memory.dispose();
    }
  });
  fc.assert(property, { seed: 77, numRuns: runs });
}

/** More addresses around one, so that blocks share some levels of their walks. */
function nearby(address: bigint): bigint[] {
  const offsets = [0n, 8n, 0x1000n, 0x7ff8n, 0x200000n, 0x40000000n, 0x8000000000n, 0x40010n];
  return offsets.map((offset) => BigInt.asUintN(64, address + offset));
}

/** What `translate` says, in the form of the fast calls. */
function packed(space: CoreSpace, step: AccessStep): bigint {
  const result = space.translate(step.address, step.access);
  return result.ok ? result.pa : HIGH | (BigInt(result.status) << 16n) | (result.errorCode & 0xffffn);
}

describe("every kernel gives what translate gives", () => {
  it("translateFast", { timeout: 60_000 }, () => {
    overScenarios(4000, (space, steps) => {
      for (const step of steps) {
        const probe = { ...step, access: step.access | Access.Probe };
        for (const one of [probe, step]) {
          // The access itself may set bits, which must not change what a second one gives.
          const expected = packed(space, one);
          const fast = space.translateFast(Number(one.address >> 32n), Number(one.address & 0xffffffffn), one.access);
          const fault = decodeFault(fast);
          const got = fast >= 0 ? BigInt(fast) : HIGH | (BigInt(fault.status) << 16n) | BigInt(fault.errorCode);
          expect(got).toBe(expected);
        }
      }
    });
  });

  it.each(["auto", "scalar", "phases"] as const)("translateBatch, kernel %s", { timeout: 60_000 }, (kernel) => {
    overScenarios(4000, (space, steps) => {
      const access = steps[0]!.access | Access.Probe;
      const near = steps.flatMap((step) => nearby(step.address));
      const input = BigUint64Array.from(near);
      const output = new BigUint64Array(input.length);
      const expected = near.map((address) => packed(space, { address, access }));
      const faults = space.translateBatch(input, output, access, kernel);
      expect([...output]).toEqual(expected);
      expect(faults).toBe(expected.filter((result) => result >= HIGH).length);
    });
  });
});

describe("pages that a source supplies on demand", () => {
  it("give the same walks as slots, and are never written", { timeout: 60_000 }, () => {
    const property = fc.property(scenarios, (scenario) => {
      const built = build(core, scenario);
      if (built === undefined) return;
      const source: PageSource = {
        readPage(gfn, into) {
          try {
            into.set(built.memory.read(gfn << 12n, 4096));
            return true;
          } catch {
            return false;
          }
        },
      };
      const sparse = core.createMemory({ source, cachedPages: 64 });
      const spaces = createSpaces(core, sparse, scenario)!;
      const before = scenario.slots.map((slot) => sparse.read(slot.gpa, slot.size));
      for (const step of scenario.accesses) {
        const probe = step.access | Access.Probe;
        const expected = built.spaces.at(-1)!.walk(step.address, probe);
        expect(spaces.at(-1)!.walk(step.address, probe)).toEqual(expected);
        expect(spaces.at(-1)!.translate(step.address, probe)).toEqual(expected.result);
        spaces.at(-1)!.translate(step.address, step.access);
      }
      scenario.slots.forEach((slot, index) => {
        expect(Buffer.compare(sparse.read(slot.gpa, slot.size), before[index]!)).toBe(0);
      });
      for (const space of [...spaces, ...built.spaces]) space.dispose();
      sparse.dispose();
      built.memory.dispose();
    });
    fc.assert(property, { seed: 78, numRuns: 1500 });
  });
});
