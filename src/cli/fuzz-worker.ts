/** One processor core's share of `x86-paging fuzz`: rounds of scenarios, or of random guests, until told to stop. */
import { parentPort } from "node:worker_threads";
import type { Kernel } from "../abi/kernel-rules.js";
import { loadSync } from "../core/index.js";
import { formatScenario, fuzzRound } from "../fuzz/index.js";
import { createReference } from "../reference/index.js";
import { loadGuestFuzzer } from "./guest-fuzzer.js";

export interface FuzzJob {
  readonly seed: number;
  /** Scenarios, or guests, in this round. */
  readonly runs: number;
  /** The random guests' machine, and the kernels it runs under; undefined: the core against the reference. */
  readonly guest?: { readonly machine: string; readonly kernels: readonly Kernel[] };
}

/** What a worker says after each round. */
export interface FuzzReport extends FuzzJob {
  readonly finding?: { readonly path: string; readonly scenario: string; readonly differences: readonly string[] };
}

const engines = () => ({ core: loadSync(), reference: createReference() });
let compared: ReturnType<typeof engines> | undefined;

async function round({ seed, runs, guest }: FuzzJob): Promise<FuzzReport["finding"]> {
  if (guest !== undefined) {
    const found = (await loadGuestFuzzer()).round(guest.machine, seed, runs, guest.kernels);
    return found && { path: found.path, scenario: found.sequence, differences: [found.message] };
  }
  compared ??= engines();
  const found = fuzzRound(compared.core, compared.reference, seed, runs);
  return found && { path: found.path, scenario: formatScenario(found.scenario), differences: found.differences };
}

const port = parentPort;
if (port !== null) {
  port.on("message", async (job: FuzzJob) => {
    const finding = await round(job);
    port.postMessage({ ...job, ...(finding && { finding }) } satisfies FuzzReport);
  });
}
