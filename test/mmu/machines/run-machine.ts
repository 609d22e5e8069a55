/** Running one sequence of operations on a machine. */
import type { VirtualMachine } from "../../../src/mmu/index.js";
import { hooks } from "./hooks.js";

/** Operations between two audits; each of them is checked. */
const AUDIT_EVERY = 10;
/** Longest sequence. */
export const OPERATIONS = 100;

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
        hooks.before?.(vm, i);
        machine.step(step);
        machine.check(thorough);
        if (thorough) noneOf("the audit found", vm.audit());
      } catch (error) {
        throw new Error(`operation ${i} (${step.join(" ")}): ${error}`);
      }
    });
    hooks.after?.(vm);
    for (const counter of ["SYNC_MISMATCH", "BROKEN"] as const) {
      if (vm.counter(counter) !== 0) throw new Error(`counter ${counter} is ${vm.counter(counter)}`);
    }
  } finally {
    machine.dispose();
  }
}

function noneOf(what: string, problems: readonly unknown[]): void {
  if (problems.length > 0) throw new Error(`${what}: ${problems.map((one) => JSON.stringify(one)).join("; ")}`);
}
