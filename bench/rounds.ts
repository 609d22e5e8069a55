/** Comparing candidates: one process, short rounds in rotating order, medians of the rounds' ratios. */
import { Bench } from "tinybench";

export interface Candidate {
  readonly name: string;
  /** Does `work` units of work. */
  run(): unknown;
  /** Prepares a run; its time does not count. */
  before?(): void;
  /** Units of work in one run, e.g. addresses. */
  readonly work: number;
}

export interface Measured {
  readonly name: string;
  /** Median time over the rounds, for a unit of work, in nanoseconds. */
  readonly nanoseconds: number;
  /** Median over the rounds of this candidate's time by the baseline's in the same round. */
  readonly ratio: number;
  /** Half the distance between the quartiles of those ratios. */
  readonly spread: number;
}

export interface RoundOptions {
  readonly rounds: number;
  /** Milliseconds for a candidate in a round. */
  readonly time: number;
}

/** Measures all candidates; the first is the baseline. */
export function compare(candidates: readonly Candidate[], { rounds, time }: RoundOptions): Measured[] {
  // V8 compiles hot code in the background and stalls around the third batch: warm everybody up first.
  for (const candidate of candidates)
    for (let until = performance.now() + 60; performance.now() < until; ) {
      candidate.before?.();
      candidate.run();
    }
  const times = candidates.map(() => [] as number[]);
  for (let round = 0; round < rounds; round++) {
    for (let place = 0; place < candidates.length; place++) {
      const index = (place + round) % candidates.length;
      times[index]!.push(measure(candidates[index]!, time));
    }
  }
  return measuredOf(candidates, times);
}

/** The same for what takes long: each candidate once a round. */
export function compareOnce(candidates: readonly Candidate[], rounds: number): Measured[] {
  const times = candidates.map(() => [] as number[]);
  for (let round = 0; round < rounds; round++) {
    for (let place = 0; place < candidates.length; place++) {
      const index = (place + round) % candidates.length;
      const candidate = candidates[index]!;
      candidate.before?.();
      const begun = performance.now();
      candidate.run();
      times[index]!.push(((performance.now() - begun) * 1e6) / candidate.work);
    }
  }
  return measuredOf(candidates, times);
}

/** Of the times of each candidate by round. */
function measuredOf(candidates: readonly Candidate[], times: readonly (readonly number[])[]): Measured[] {
  return candidates.map((candidate, index) => {
    const ratios = times[index]!.map((value, round) => value / times[0]![round]!);
    return {
      name: candidate.name,
      nanoseconds: quantile(times[index]!, 0.5),
      ratio: quantile(ratios, 0.5),
      spread: (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / 2,
    };
  });
}

/** Nanoseconds for a unit of work: tinybench's median of the runs that fit into `time`. */
function measure(candidate: Candidate, time: number): number {
  const bench = new Bench({ time, iterations: 5, warmup: false });
  const hooks = candidate.before === undefined ? {} : { beforeEach: () => candidate.before!() };
  bench.add(candidate.name, () => void candidate.run(), hooks);
  bench.runSync();
  const result = bench.tasks[0]!.result;
  if (!("latency" in result)) throw new Error(`${candidate.name}: ${JSON.stringify(result)}`);
  return (result.latency.p50 * 1e6) / candidate.work;
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)]!;
}
