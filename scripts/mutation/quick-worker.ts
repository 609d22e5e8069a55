/**
 * The quick suites, on a thread of their own so that a walk which never ends can be stopped. First the first round of
 * test/differential/engines.test.ts, with the reference's outcomes computed once; then the walk's own suites.
 * What is found here is found by `npm test`.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import fc from "fast-check";
import { loadSync, wasmBytes } from "../../src/core/load.js";
import { compareOutcomes } from "../../src/fuzz/compare.js";
import { type Outcome, runScenario, scenarios } from "../../src/fuzz/index.js";
import type { Scenario } from "../../src/fuzz/scenario.js";
import { createReference } from "../../src/reference/index.js";

export interface QuickData {
  /** Root of the tree. */
  readonly root: string;
  /** Bundle of walk-suites.ts. */
  readonly suites: string;
}

export interface QuickJob {
  readonly suite: "differential" | "walk";
  /** Absent: the core that is inlined, for mistakes in the host's own code. */
  readonly wasm?: Uint8Array<ArrayBuffer>;
}

/** What is different, or undefined where the suite passes. */
export type QuickAnswer = string | undefined;

interface Case {
  readonly scenario: Scenario;
  readonly expected: Outcome;
}

/** The first round of test/differential/engines.test.ts. */
const SEED = 1000;
const RUNS = 2000;

let prepared: readonly Case[] | undefined;

function casesOf(): readonly Case[] {
  const reference = createReference();
  const list: Case[] = [];
  const property = fc.property(scenarios, (scenario) => {
    list.push({ scenario, expected: runScenario(reference, scenario) });
  });
  fc.assert(property, { seed: SEED, numRuns: RUNS });
  return list;
}

function differential(wasm: Uint8Array<ArrayBuffer>): QuickAnswer {
  const core = loadSync(wasm);
  prepared ??= casesOf();
  for (const { scenario, expected } of prepared) {
    const [difference] = compareOutcomes(runScenario(core, scenario), expected);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function walkSuites(wasm: Uint8Array<ArrayBuffer>): Promise<QuickAnswer> {
  const { root, suites } = workerData as QuickData;
  const base64 = Buffer.from(wasm).toString("base64");
  return new Promise((resolve) => {
    globalThis.suitesDone = resolve;
    new Function("require", "coreUnderTest", suites)(createRequire(join(root, "package.json")), base64);
  });
}

process.env.ENGINE = "wasm";
parentPort!.on("message", async ({ suite, wasm = wasmBytes() }: QuickJob) => {
  let answer: QuickAnswer;
  try {
    answer = suite === "walk" ? await walkSuites(wasm) : differential(wasm);
  } catch (error) {
    answer = error instanceof Error ? error.message : String(error);
  }
  parentPort!.postMessage(answer);
});
