/**
 * Random guests on direct tables, in every kind of VM with two-dimensional paging. After each operation what the processor
 * finds in the tables is what the memslots and the host allow at that moment, and a dirty log loses no page.
 * A tenth of SEQUENCES sequences of operations are run per kind (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, it } from "vitest";
import { DirectMachine } from "./machines/direct-machine.js";
import { anyKernel } from "./machines/kernels.js";
import { KINDS } from "./machines/kinds.js";
import { OPERATIONS, runMachine, runOf, SEQUENCES } from "./machines/run-machine.js";

const sequence = fc.record({
  kernel: anyKernel,
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
      fc.property(sequence, ({ kernel, manualDirtyLog, steps }) => {
        const machine = new DirectMachine(kind, tdpMmu, manualDirtyLog, kernel);
        runMachine(machine, machine.vm, steps);
      }),
      runOf(Math.ceil(SEQUENCES / 10)),
    );
  });
});
