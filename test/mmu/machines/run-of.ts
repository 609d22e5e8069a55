/** How the tests run the random guests of one group: SEQUENCES, SEED and SHRINK in the environment. */
import fc from "fast-check";
import { describe, it } from "vitest";
import { KERNELS } from "../../../src/abi/kernel-rules.js";
import { GUEST_PROPERTIES, type GuestGroup } from "./properties.js";

/** Sequences of the shortest run; SEQUENCES in the environment asks for more. */
const SEQUENCES = Number(process.env.SEQUENCES ?? 60);

/**
 * Tests that the rule holds for every kind of machine of a group, `share` of SEQUENCES sequences each, under both kernels.
 * SEED repeats a run, SHRINK=0 shows a failure as it is.
 */
export function testGuests(group: GuestGroup, rule: string, share: number): void {
  const runs = Math.ceil(SEQUENCES * share);
  const { SEED, SHRINK } = process.env;
  const seed = SEED === undefined ? {} : { seed: Number(SEED) };
  describe(`random guests (${runs} sequences of each kind)`, () => {
    const properties = GUEST_PROPERTIES.filter((one) => one.group === group);
    it.each(properties.map((one) => [one.name, one] as const))(`%s: ${rule}`, { timeout: 7_200_000 }, (_name, one) => {
      fc.assert(one.over(KERNELS), { numRuns: runs, unbiased: true, endOnFailure: SHRINK === "0", ...seed });
    });
  });
}
