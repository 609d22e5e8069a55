/** Rounds of random guests for `x86-paging fuzz --vm`, which finds this module built into dist/guests. */
import fc from "fast-check";
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import type { GuestFinding, GuestFuzzer } from "../../../src/cli/guest-fuzzer.js";
import { GUEST_PROPERTIES } from "./properties.js";

export const fuzzer: GuestFuzzer = {
  names: GUEST_PROPERTIES.map(({ name }) => name),

  round(name: string, seed: number, runs: number, kernels: readonly Kernel[]): GuestFinding | undefined {
    const found = GUEST_PROPERTIES.find((one) => one.name === name);
    if (found === undefined) throw new RangeError(`no machine is called "${name}"`);
    const result = fc.check(found.over(kernels), { seed, numRuns: runs, unbiased: true });
    if (!result.failed) return undefined;
    const { errorInstance, counterexample, counterexamplePath } = result;
    return {
      path: counterexamplePath ?? "",
      sequence: fc.stringify(counterexample?.[0]),
      message: errorInstance instanceof Error ? errorInstance.message : String(errorInstance),
    };
  },
};
