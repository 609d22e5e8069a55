/**
 * Random L1 hypervisors and their nested guests, in every kind of VM with two-dimensional paging. After each operation what
 * the processor finds in the shadow of L1's second stage is what L1's tables, the memslots and the host allow, now or at some
 * time since L1's last flush; L2's faults are those of its own tables or of L1's; a dirty log loses no page.
 * SEQUENCES sets how many sequences of operations are run (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KINDS, type MachineKind } from "./machines/kinds.js";
import { type NestedKind, NestedMachine } from "./machines/nested-machine.js";
import type { SecondFormat } from "./machines/nested-tables.js";

const SEQUENCES = Number(process.env.SEQUENCES ?? 60);
const OPERATIONS = 100;
const AUDIT_EVERY = 10;

const PLAIN = KINDS.filter(({ aliasMask }) => aliasMask === 0n);

/** L1's second stage can have at most the levels of the host's. */
function formatsOf({ format, level }: MachineKind): readonly SecondFormat[] {
  if (format.kind === "ept") return level === 5 ? ["ept4", "ept5"] : ["ept4"];
  return (["32", "pae", "4level", "5level"] as const).slice(0, level - 1);
}

const kindOf = (machine: MachineKind): fc.Arbitrary<NestedKind> =>
  fc.record({
    tdpMmu: machine.level === 3 ? fc.constant(false) : fc.boolean(),
    format: fc.constantFrom(...formatsOf(machine)),
    pse: fc.boolean(),
    accessedDirty: machine.accessedDirty ? fc.boolean() : fc.constant(false),
    l2Mode: fc.constantFrom("nopg" as const, "32" as const, "pae" as const, "4level" as const),
    manualDirtyLog: fc.constantFrom(0 as const, 1 as const, 3 as const),
  });

const steps = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), {
  minLength: 1,
  maxLength: OPERATIONS,
  size: "max",
});

describe.each(PLAIN.map((machine) => [machine.name, machine] as const))("a nested guest on %s", (_name, machine) => {
  it("reaches no more than L1 and the host allow", { timeout: 7_200_000 }, () => {
    fc.assert(
      fc.property(kindOf(machine), steps, (kind, operations) => {
        const world = new NestedMachine(machine, kind);
        try {
          operations.forEach((step, i) => {
            const thorough = i % AUDIT_EVERY === 0 || i === operations.length - 1;
            try {
              world.step(step);
              world.check(thorough);
            } catch (error) {
              const shown = step.map((one, n) => (n === 0 ? one % 32 : one)).join(" ");
              throw new Error(`operation ${i} (${shown}): ${error}`);
            }
            if (thorough) expect(world.guest.vm.audit()).toEqual([]);
          });
          expect(world.guest.vm.counter("SYNC_MISMATCH")).toBe(0);
          expect(world.guest.vm.counter("BROKEN")).toBe(0);
        } finally {
          world.dispose();
        }
      }),
      {
        numRuns: Math.ceil(SEQUENCES / 10),
        unbiased: true,
        endOnFailure: process.env.SHRINK === "0",
        ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
      },
    );
  });
});
