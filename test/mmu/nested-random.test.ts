/**
 * Random L1 hypervisors and their nested guests, in every kind of VM with two-dimensional paging. After each operation what
 * the processor finds in the shadow of L1's second stage is what L1's tables, the memslots and the host allow, now or at some
 * time since L1's last flush; L2's faults are those of its own tables or of L1's; a dirty log loses no page.
 * A tenth of SEQUENCES sequences of operations are run per host (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, it } from "vitest";
import { anyKernel } from "./machines/kernels.js";
import { KINDS, type MachineKind } from "./machines/kinds.js";
import { type NestedKind, NestedMachine } from "./machines/nested-machine.js";
import type { SecondFormat } from "./machines/nested-tables.js";
import { OPERATIONS, runMachine, runOf, SEQUENCES } from "./machines/run-machine.js";

const PLAIN = KINDS.filter(({ aliasMask }) => aliasMask === 0n);

/** L1's second stage can have at most the levels of the host's. */
function formatsOf({ format, level }: MachineKind): readonly SecondFormat[] {
  if (format.kind === "ept") return level === 5 ? ["ept4", "ept5"] : ["ept4"];
  return (["32", "pae", "4level", "5level"] as const).slice(0, level - 1);
}

const kindOf = (machine: MachineKind): fc.Arbitrary<NestedKind> =>
  fc.record({
    kernel: anyKernel,
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
        runMachine(world, world.guest.vm, operations);
      }),
      runOf(Math.ceil(SEQUENCES / 10)),
    );
  });
});
