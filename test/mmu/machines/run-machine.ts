/** Running one sequence of operations on a machine, and the settings of a run of many. */
import { expect } from "vitest";
import type { VirtualMachine } from "../../../src/mmu/index.js";

/** Operations between two audits; each of them is checked. */
const AUDIT_EVERY = 10;
/** Longest sequence. */
export const OPERATIONS = 100;
/** Sequences of the shortest run; SEQUENCES in the environment asks for more. */
export const SEQUENCES = Number(process.env.SEQUENCES ?? 60);

/** Settings of fast-check: SEED repeats a run, SHRINK=0 shows a failure as it is. */
export function runOf(numRuns: number) {
  const { SEED, SHRINK } = process.env;
  const seed = SEED === undefined ? {} : { seed: Number(SEED) };
  return { numRuns, unbiased: true, endOnFailure: SHRINK === "0", ...seed };
}

export interface Machine<Step> {
  step(step: Step): void;
  check(thorough: boolean): void;
  dispose(): void;
}

/** Does every step, checks after each, audits now and then, and disposes of the machine. Throws with the step's number. */
export function runMachine<Step extends readonly number[]>(
  machine: Machine<Step>,
  vm: VirtualMachine,
  steps: readonly Step[],
): void {
  try {
    steps.forEach((step, i) => {
      const thorough = i % AUDIT_EVERY === 0 || i === steps.length - 1;
      try {
        machine.step(step);
        machine.check(thorough);
      } catch (error) {
        throw new Error(`operation ${i} (${step.join(" ")}): ${error}`);
      }
      if (thorough) expect(vm.audit()).toEqual([]);
    });
    expect(vm.counter("SYNC_MISMATCH")).toBe(0);
    expect(vm.counter("BROKEN")).toBe(0);
  } finally {
    machine.dispose();
  }
}
