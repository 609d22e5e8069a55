/** One processor core's share of `x86-paging fuzz`: rounds of scenarios until told to stop. */
import { parentPort, workerData } from "node:worker_threads";
import { loadSync } from "../core/index.js";
import { formatScenario, fuzzRound } from "../fuzz/index.js";
import { createReference } from "../reference/index.js";

export interface FuzzJob {
  readonly seed: number;
  /** Scenarios a round. */
  readonly runs: number;
}

/** What a worker says after each round. */
export interface FuzzReport {
  readonly seed: number;
  readonly runs: number;
  readonly finding?: { readonly path: string; readonly scenario: string; readonly differences: readonly string[] };
}

const port = parentPort;
if (port !== null) {
  const core = loadSync();
  const reference = createReference();
  port.on("message", (job: FuzzJob | "stop") => {
    if (job === "stop") {
      port.close();
      return;
    }
    const found = fuzzRound(core, reference, job.seed, job.runs);
    const finding = found && {
      path: found.path,
      scenario: formatScenario(found.scenario),
      differences: found.differences,
    };
    port.postMessage({ ...job, ...(finding && { finding }) } satisfies FuzzReport);
  });
  port.postMessage(workerData);
}
