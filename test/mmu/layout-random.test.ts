/**
 * Random guests whose memory lies as a PC's does (machines/layout-machine.ts), in every kind of VM with two-dimensional
 * paging. A tenth of SEQUENCES sequences of operations are run per kind (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { countAllocated } from "./allocated.js";
import { core } from "./guest.js";
import { anyKernel } from "./machines/kernels.js";
import { KINDS } from "./machines/kinds.js";
import { LAYOUTS, type LayoutKind, LayoutMachine } from "./machines/layout-machine.js";
import { OPERATIONS, runMachine, runOf, SEQUENCES } from "./machines/run-machine.js";

const steps = fc.array(fc.tuple(fc.nat(99), fc.nat(1023), fc.nat(65535)), {
  minLength: 1,
  maxLength: OPERATIONS,
  size: "max",
});

const kindOf = (tdp: boolean): fc.Arbitrary<LayoutKind> =>
  fc.record({
    kernel: anyKernel,
    tdpMmu: tdp ? fc.boolean() : fc.constant(false),
    layout: fc.nat(LAYOUTS.length - 1),
    manualDirtyLog: fc.constantFrom(0 as const, 1 as const, 3 as const),
    rangedFlush: fc.boolean(),
    maxHugeLevel: fc.constantFrom(1 as const, 2 as const, 3 as const, 3 as const),
    mmioCaching: fc.boolean(),
  });

const CASES = KINDS.filter(({ aliasMask }) => aliasMask === 0n).map((machine) => [machine.name, machine] as const);

describe.each(CASES)("a guest with a PC's memory on %s", (_name, machine) => {
  it("has what slots and host give, loses no more than it must, and gives all memory back", {
    timeout: 7_200_000,
  }, () => {
    fc.assert(
      fc.property(kindOf(machine.level > 3), steps, (kind, operations) => {
        const counter = countAllocated(core().internals());
        const world = new LayoutMachine(machine, kind);
        try {
          runMachine(world, world.vm, operations);
        } finally {
          counter.undo();
        }
        expect(counter.bytes).toBe(0);
      }),
      runOf(Math.ceil(SEQUENCES / 10)),
    );
  });
});
