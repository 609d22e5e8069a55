/**
 * Judges builds of the core on a thread of its own, so that a walk which never ends can be stopped: either by the first
 * round of test/differential/engines.test.ts, with the reference's outcomes computed once, or by a bundle of suites.
 * What is found here is found by `npm test`.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import fc from "fast-check";
import { loadSync } from "../../src/core/load.js";
import { compareOutcomes } from "../../src/fuzz/compare.js";
import { type Outcome, runScenario, scenarios } from "../../src/fuzz/index.js";
import type { Scenario } from "../../src/fuzz/scenario.js";
import { createReference } from "../../src/reference/index.js";
import "./suites-done.js";

export type SuiteName = "differential" | "walk" | "mmu" | "guests";

export interface QuickData {
  /** Root of the repository. */
  readonly root: string;
  /** Bundles of suites-*.ts. */
  readonly bundles: Readonly<Record<Exclude<SuiteName, "differential">, string>>;
}

export interface QuickJob {
  readonly suite: SuiteName;
  readonly wasm: Uint8Array<ArrayBuffer>;
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

function runBundle(bundle: string, wasm: Uint8Array<ArrayBuffer>): Promise<QuickAnswer> {
  const { root } = workerData as QuickData;
  const base64 = Buffer.from(wasm).toString("base64");
  return new Promise((resolve) => {
    globalThis.suitesDone = resolve;
    new Function("require", "coreUnderTest", bundle)(createRequire(join(root, "package.json")), base64);
  });
}

process.env.ENGINE = "wasm";
parentPort!.on("message", async ({ suite, wasm }: QuickJob) => {
  let answer: QuickAnswer;
  try {
    const { bundles } = workerData as QuickData;
    answer = suite === "differential" ? differential(wasm) : await runBundle(bundles[suite], wasm);
  } catch (error) {
    answer = error instanceof Error ? error.message : String(error);
  }
  parentPort!.postMessage(answer);
});
