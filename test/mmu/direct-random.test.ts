/**
 * Random guests on direct tables, in every kind of VM with two-dimensional paging. After each operation what the processor
 * finds in the tables is what the memslots and the host allow at that moment, and a dirty log loses no page.
 * SEQUENCES sets how many sequences of operations are run per kind (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DirectMachine } from "./machines/direct-machine.js";
import { KINDS } from "./machines/kinds.js";

const SEQUENCES = Math.ceil(Number(process.env.SEQUENCES ?? 60) / 10);
const OPERATIONS = 100;
const AUDIT_EVERY = 10;

const sequence = fc.record({
  manualDirtyLog: fc.constantFrom(0 as const, 1 as const, 3 as const),
  steps: fc.array(fc.tuple(fc.nat(99), fc.nat(255), fc.nat(65535)), {
    minLength: 1,
    maxLength: OPERATIONS,
    size: "max",
  }),
});

const CASES = KINDS.flatMap((kind) => {
  // A 32-bit host has no TDP MMU.
  const mmus = kind.level === 3 ? [false] : [false, true];
  return mmus.map((tdpMmu) => [kind.name, tdpMmu ? "TDP MMU" : "classic direct MMU", kind, tdpMmu] as const);
});

describe.each(CASES)("a random guest on %s, %s", (_kind, _mmu, kind, tdpMmu) => {
  it("reaches the host's pages with the rights that there are, and nothing else", { timeout: 7_200_000 }, () => {
    fc.assert(
      fc.property(sequence, ({ manualDirtyLog, steps }) => {
        const machine = new DirectMachine(kind, tdpMmu, manualDirtyLog);
        try {
          steps.forEach((step, i) => {
            const thorough = i % AUDIT_EVERY === 0 || i === steps.length - 1;
            try {
              machine.step(step);
              machine.check(thorough);
            } catch (error) {
              throw new Error(`operation ${i} (${step.join(" ")}): ${error}`);
            }
            if (thorough) expect(machine.vm.audit()).toEqual([]);
          });
          expect(machine.vm.counter("BROKEN")).toBe(0);
        } finally {
          machine.dispose();
        }
      }),
      {
        numRuns: SEQUENCES,
        unbiased: true,
        endOnFailure: process.env.SHRINK === "0",
        ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
      },
    );
  });
});
