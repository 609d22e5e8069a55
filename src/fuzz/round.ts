/** A round of differential fuzzing: a number of scenarios from one seed. */
import fc from "fast-check";
import type { PagingEngine } from "../api.js";
import { scenarios } from "./arbitrary.js";
import { compareEngines } from "./compare.js";
import type { Scenario } from "./scenario.js";

/** A difference, shrunk to a small scenario. */
export interface Finding {
  readonly seed: number;
  /** Where in the seed's sequence, for fast-check's `path`. */
  readonly path: string;
  readonly scenario: Scenario;
  /** What differs in the shrunk scenario. */
  readonly differences: readonly string[];
}

/** Compares the engines over `runs` scenarios of `seed`; the first difference comes back shrunk. */
export function fuzzRound(left: PagingEngine, right: PagingEngine, seed: number, runs: number): Finding | undefined {
  const property = fc.property(scenarios, (scenario) => compareEngines(left, right, scenario).length === 0);
  const result = fc.check(property, { seed, numRuns: runs });
  if (!result.failed) return undefined;
  const scenario = result.counterexample![0];
  return { seed, path: result.counterexamplePath ?? "", scenario, differences: compareEngines(left, right, scenario) };
}
