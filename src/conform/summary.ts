/** Runs a stream of vectors and counts. */
import type { PagingEngine } from "../api.js";
import type { WebAbortSignal } from "../platform.js";
import { runVector, type VectorOutcome } from "./run-vector.js";
import type { WalkVector } from "./vector.js";

/** What judging vectors came to. */
export interface ConformanceSummary {
  passed: number;
  failed: number;
  /** Of those that passed: how many by each known exception, by its name. */
  readonly exceptions: Map<string, number>;
  /** The first failures, in order. */
  readonly failures: VectorOutcome[];
}

/** What is judged, and how much of it is kept. */
export interface ConformanceOptions {
  /** How many failures are kept. Default 10. */
  readonly keepFailures?: number;
  /** Called after each vector: for a progress display. */
  readonly onVector?: (summary: Readonly<ConformanceSummary>) => void;
  /** A summary to go on counting in: for several files. */
  readonly into?: ConformanceSummary;
  /** Ends the run: it rejects with the signal's reason; `into` has what was counted before. */
  readonly signal?: WebAbortSignal;
}

/** Runs every vector; what is thrown while reading them (a VectorError) passes through. */
export async function runVectors(
  engine: PagingEngine,
  vectors: AsyncIterable<WalkVector> | Iterable<WalkVector>,
  options: ConformanceOptions = {},
): Promise<ConformanceSummary> {
  const { keepFailures = 10, onVector, into } = options;
  const summary: ConformanceSummary = into ?? { passed: 0, failed: 0, exceptions: new Map(), failures: [] };
  const signal = options.signal as AbortSignal | undefined;
  for await (const vector of vectors) {
    signal?.throwIfAborted();
    const outcome = runVector(engine, vector);
    if (outcome.passed) {
      summary.passed++;
      const { exception } = outcome;
      if (exception !== undefined) summary.exceptions.set(exception, (summary.exceptions.get(exception) ?? 0) + 1);
    } else {
      summary.failed++;
      if (summary.failures.length < keepFailures) summary.failures.push(outcome);
    }
    onVector?.(summary);
  }
  return summary;
}
