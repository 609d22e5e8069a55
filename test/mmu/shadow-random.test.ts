/**
 * Random guests under shadow paging. After each operation, what the processor finds in the shadow tables must be what the
 * guest's own tables, the memslots and the host allow, now or at some time since the guest's last flush: never more.
 * SEQUENCES sets how many sequences of operations are run (nightly: 2000 and more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import fc from "fast-check";
import { describe, it } from "vitest";
import { anyKernel } from "./machines/kernels.js";
import { OPERATIONS, runMachine, runOf, SEQUENCES } from "./machines/run-machine.js";
import { ShadowMachine } from "./machines/shadow-machine.js";

const sequence = fc.record({
  kind: fc.record({
    kernel: anyKernel,
    mode: fc.constantFrom("nopg" as const, "32" as const, "pae" as const, "4level" as const, "5level" as const),
    minimumRootLevel: fc.constantFrom(3 as const, 4 as const, 5 as const),
    wp: fc.boolean(),
    defaultPaePdpte: fc.boolean(),
    encrypted: fc.boolean(),
    nxHugePages: fc.boolean(),
    virtualization: fc.constantFrom("svm" as const, "vmx" as const),
    manualDirtyLog: fc.constantFrom(0 as const, 1 as const, 3 as const),
  }),
  steps: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), {
    minLength: 1,
    maxLength: OPERATIONS,
    size: "max",
  }),
});

describe("random guests", () => {
  it(`never reach more than their tables and slots allow (${SEQUENCES} sequences of up to ${OPERATIONS} operations)`, {
    timeout: 7_200_000,
  }, () => {
    fc.assert(
      fc.property(sequence, ({ kind, steps }) => {
        const machine = new ShadowMachine(kind);
        machine.check(true);
        runMachine(machine, machine.guest.vm, steps);
      }),
      runOf(SEQUENCES),
    );
  });
});
