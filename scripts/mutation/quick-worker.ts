/**
 * The quick suite, on a thread of its own so that a walk which never ends can be stopped: the first round of
 * test/differential/engines.test.ts and the first scenarios of test/differential/kernels.test.ts, so that what is found
 * here is found by the tests as well.
 */
import { parentPort } from "node:worker_threads";
import fc from "fast-check";
import { Access } from "../../src/abi/index.js";
import type { AddressSpace, PagingEngine } from "../../src/api.js";
import { type Core, type CoreSpace, decodeFault, loadSync } from "../../src/core/index.js";
import { PagingError } from "../../src/errors.js";
import { compareOutcomes } from "../../src/fuzz/compare.js";
import { type Outcome, runScenario, type Scenario, scenarios } from "../../src/fuzz/index.js";
import { createReference } from "../../src/reference/index.js";

/** `wasm` absent: the one that is inlined, for mistakes in the host's own code. */
export interface QuickJob {
  readonly wasm?: Uint8Array<ArrayBuffer>;
}

/** What is different, or undefined where the suite passes. */
export type QuickAnswer = string | undefined;

interface Case {
  readonly scenario: Scenario;
  readonly expected: Outcome;
}

function scenariosOf(seed: number, numRuns: number): Scenario[] {
  const list: Scenario[] = [];
  const property = fc.property(scenarios, (one) => {
    list.push(one);
  });
  fc.assert(property, { seed, numRuns });
  return list;
}

function differenceIn(core: Core, cases: readonly Case[], kernelCases: readonly Scenario[]): QuickAnswer {
  for (const { scenario, expected } of cases) {
    const [difference] = compareOutcomes(runScenario(core, scenario), expected);
    if (difference !== undefined) return difference;
  }
  for (const scenario of kernelCases) {
    const difference = fastDifference(core, scenario);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

/** Where `translateFast` does not give what `translate` gives. */
function fastDifference(core: Core, scenario: Scenario): QuickAnswer {
  const memory = core.createMemory({ slots: scenario.slots });
  const spaces: AddressSpace[] = [];
  try {
    for (const { address, value, bytes } of scenario.entries) {
      if (!scenario.slots.some((slot) => address >= slot.gpa && address < slot.gpa + BigInt(slot.size))) continue;
      if (bytes === 4) memory.writeU32(address, Number(value));
      else memory.writeU64(address, value);
    }
    const { second, guest } = scenario;
    if (second?.kind === "ept") spaces.push(core.createEpt(memory, second.config));
    if (second?.kind === "npt") spaces.push(core.createNpt(memory, second.config));
    const secondStage = spaces[0];
    if (guest) spaces.push(core.createAddressSpace(memory, secondStage ? { ...guest, secondStage } : guest));
    const space = spaces.at(-1) as CoreSpace;
    for (const step of scenario.accesses) {
      for (const access of [step.access | Access.Probe, step.access]) {
        const full = space.translate(step.address, access);
        const fast = space.translateFast(Number(step.address >> 32n), Number(step.address & 0xffffffffn), access);
        const expected = full.ok ? `${full.pa}` : `${full.status} ${full.errorCode & 0xffffn}`;
        const { status, errorCode } = decodeFault(fast);
        const given = fast >= 0 ? `${fast}` : `${status} ${errorCode}`;
        if (given !== expected) return `translateFast: ${given} / ${expected}`;
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof PagingError) return undefined;
    throw error;
  } finally {
    for (const space of spaces) space.dispose?.();
    memory.dispose();
  }
}

const reference: PagingEngine = createReference();
const cases = scenariosOf(1000, 2000).map((scenario) => ({ scenario, expected: runScenario(reference, scenario) }));
const kernelCases = scenariosOf(77, 600);

parentPort!.on("message", ({ wasm }: QuickJob) => {
  try {
    parentPort!.postMessage(differenceIn(loadSync(wasm), cases, kernelCases));
  } catch (error) {
    parentPort!.postMessage(error instanceof Error ? error.message : String(error));
  }
});
