/**
 * Random guests on every kind of machine, saved and restored at some step: what follows is what follows without that, events
 * and their addresses included, and so is the state in the end.
 */
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { KERNELS } from "../../src/abi/kernel-rules.js";
import type { MmuTraceEvent, VirtualMachine } from "../../src/mmu/index.js";
import { restoreMachine, saveMachine } from "../../src/state/index.js";
import { hooks } from "./machines/hooks.js";
import { GUEST_PROPERTIES } from "./machines/properties.js";

/** Sequences of each kind; with SEQUENCES in the environment more, and of every kind. */
const SEQUENCES = Number(process.env.SEQUENCES ?? 60);
const KINDS = GUEST_PROPERTIES.filter((_, index) => process.env.SEQUENCES !== undefined || index % 7 === 0);
const RUNS = Math.ceil(SEQUENCES / 60);
const SEED = Number(process.env.SEED ?? 11);

/** What a run of a sequence has shown. */
interface Run {
  readonly events: MmuTraceEvent[];
  state: Buffer | undefined;
}

afterEach(() => {
  hooks.before = undefined;
  hooks.after = undefined;
  hooks.eventCapacity = 0;
});

/** Runs the sequences of a property, with `between` before each step. */
function record(
  property: fc.IPropertyWithHooks<[unknown]>,
  between: (vm: VirtualMachine, step: number) => void,
): Run[] {
  const runs: Run[] = [];
  hooks.eventCapacity = 4000;
  hooks.before = (vm, step) => {
    if (step === 0) {
      const run: Run = { events: [], state: undefined };
      vm.events.sink = (event) => run.events.push(event);
      runs.push(run);
    }
    between(vm, step);
  };
  hooks.after = (vm) => {
    runs.at(-1)!.state = Buffer.from(saveMachine(vm));
  };
  fc.assert(property, { numRuns: RUNS, seed: SEED, unbiased: true, endOnFailure: true });
  return runs;
}

describe("a virtual machine that is restored at a step", () => {
  it.each(KINDS.map((one) => [`${one.group}: ${one.name}`, one] as const))("%s", (_, one) => {
    const property = one.over(KERNELS);
    const plain = record(property, () => {});
    const restored = record(property, (vm, step) => {
      if (step % 7 !== 3) return;
      const state = saveMachine(vm);
      restoreMachine(vm, state);
      expect(Buffer.from(saveMachine(vm)).equals(Buffer.from(state))).toBe(true);
    });
    expect(restored.length).toBe(plain.length);
    expect(plain.flatMap(({ events }) => events).length).toBeGreaterThan(0);
    restored.forEach(({ events, state }, index) => {
      expect(events).toEqual(plain[index]!.events);
      expect(state!.equals(plain[index]!.state!)).toBe(true);
    });
  });
});
