/** The benchmarks as `x86-paging bench` sees them: bench/suite.ts, which is built into dist/bench. */

/** One candidate's result. */
export interface BenchmarkResult {
  readonly name: string;
  /** Median time for a unit of work, in nanoseconds. */
  readonly nanoseconds: number;
  /** Median of the rounds' ratios to the first candidate. */
  readonly ratio: number;
  /** Half the distance between the quartiles of those ratios. */
  readonly spread: number;
}

export interface BenchmarkSection {
  readonly title: string;
  /** What a unit of work is. */
  readonly unit: string;
  readonly results: readonly BenchmarkResult[];
}

/** A figure by size. */
export interface BenchmarkCurve {
  readonly name: string;
  /** What is counted along the curve. */
  readonly of: string;
  readonly unit: "ns" | "bytes";
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** What is run in one go; a few seconds at most, but for the largest sizes. */
export interface BenchmarkUnit {
  readonly title: string;
  run(): { readonly sections?: readonly BenchmarkSection[]; readonly curves?: readonly BenchmarkCurve[] };
}

export interface BenchmarkOptions {
  readonly quick: boolean;
  /** A part of the titles of those that are wanted, in any case; "" for all. */
  readonly only: string;
}

export interface Benchmarks {
  /** `notes` says what is left out; units add to it as they run. */
  units(options: BenchmarkOptions): { readonly units: readonly BenchmarkUnit[]; readonly notes: readonly string[] };
  machine(): { readonly processor: string; readonly node: string; readonly v8: string };
  /** As Markdown tables. */
  sectionText(section: BenchmarkSection): string;
  curveText(curves: readonly BenchmarkCurve[]): string;
}

/** Resolved by package.json, from the sources and from dist alike. */
const BENCHMARKS: string = "#bench";

export async function loadBenchmarks(): Promise<Benchmarks> {
  const { benchmarks } = (await import(/* @vite-ignore */ BENCHMARKS)) as { benchmarks: Benchmarks };
  return benchmarks;
}
