/** `x86-paging fuzz`: the Wasm core against the reference, on every processor core. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Command } from "commander";
import type { CliContext } from "../context.js";
import { ExitCode } from "../errors.js";
import type { FuzzJob, FuzzReport } from "../fuzz-worker.js";
import { parseInteger } from "../values.js";

/** Scenarios a worker runs before it reports: a fraction of a second. */
const ROUND = 500;
/** Seeds are 31-bit, as fast-check takes them. */
const SEEDS = 2 ** 31;

interface FuzzOptions {
  seed?: number;
  runs?: number;
  seconds?: number;
  workers: number;
  json?: boolean;
}

export function registerFuzz(program: Command, context: CliContext): void {
  program
    .command("fuzz")
    .description("compare the Wasm core with the reference over random tables, until Ctrl-C")
    .option("--seed <n>", "first seed; the same seed and --runs give the same scenarios", parseInteger(0, SEEDS - 1))
    .option("--runs <n>", "stop after this many scenarios", parseInteger(1, Number.MAX_SAFE_INTEGER))
    .option("--seconds <n>", "stop after this time", parseInteger(1, 10 ** 7))
    .option("--workers <n>", "threads", parseInteger(1, 256), availableParallelism())
    .option("--json", "the result as one JSON object")
    .addHelpText(
      "after",
      "\nA difference is shrunk and printed as a scenario for a test; the exit code is 1 then." +
        "\n\nExamples:\n  x86-paging fuzz\n  x86-paging fuzz --seed 7 --runs 100000\n  x86-paging fuzz --seconds 600 --json",
    )
    .action((options: FuzzOptions) => fuzz(context, options));
}

async function fuzz(context: CliContext, options: FuzzOptions): Promise<void> {
  const seed = options.seed ?? Math.floor(Math.random() * SEEDS);
  const campaign = new Campaign(context, options, seed);
  const finding = await campaign.run();
  const { scenarios } = campaign;
  if (options.json) {
    await context.out.line(JSON.stringify({ seed, scenarios, finding: finding ?? null }));
  } else {
    if (finding) await printFinding(context, finding);
    await context.out.line(`${scenarios} scenarios from seed ${seed}: ${finding ? "a difference" : "no difference"}`);
  }
  if (finding) context.exitCode = ExitCode.Negative;
}

async function printFinding({ out }: CliContext, { seed, finding }: FuzzReport): Promise<void> {
  const { path, differences, scenario } = finding!;
  await out.line(`difference at seed ${seed}, path ${path} (core / reference):`);
  for (const line of differences) await out.line(`  ${line}`);
  await out.lines(`const scenario: Scenario = ${scenario};`);
}

/** Hands rounds to the workers until a difference is found, the work is done, the time is up or Ctrl-C comes. */
class Campaign {
  scenarios = 0;
  #handedOut = 0;
  #nextSeed: number;
  #stopped = false;
  #lastNote = Date.now();
  readonly #workers: Worker[] = [];
  readonly #context: CliContext;
  readonly #options: FuzzOptions;

  constructor(context: CliContext, options: FuzzOptions, seed: number) {
    this.#context = context;
    this.#options = options;
    this.#nextSeed = seed;
  }

  async run(): Promise<FuzzReport | undefined> {
    const stop = () => {
      this.#stopped = true;
    };
    process.once("SIGINT", stop);
    const timer = this.#options.seconds === undefined ? undefined : setTimeout(stop, this.#options.seconds * 1000);
    try {
      const reports = await Promise.all(Array.from({ length: this.#options.workers }, () => this.#drive()));
      return reports.filter((report) => report !== undefined).sort((a, b) => a.seed - b.seed)[0];
    } finally {
      clearTimeout(timer);
      process.removeListener("SIGINT", stop);
      await Promise.all(this.#workers.map((worker) => worker.terminate()));
    }
  }

  /** One worker from start to end; its finding, if it has one. */
  #drive(): Promise<FuzzReport | undefined> {
    const first = this.#nextJob();
    if (first === undefined) return Promise.resolve(undefined);
    const worker = new Worker(new URL("../fuzz-worker.js", import.meta.url));
    this.#workers.push(worker);
    return new Promise((resolve, reject) => {
      worker.on("error", reject);
      worker.on("message", (report: FuzzReport | null | undefined) => {
        if (report) this.#count(report);
        if (report?.finding) this.#stopped = true;
        const job = report ? this.#nextJob() : first;
        if (report?.finding || job === undefined) resolve(report?.finding ? report : undefined);
        else worker.postMessage(job);
      });
    });
  }

  #nextJob(): FuzzJob | undefined {
    const left = (this.#options.runs ?? Number.POSITIVE_INFINITY) - this.#handedOut;
    if (this.#stopped || left <= 0) return undefined;
    const job = { seed: this.#nextSeed, runs: Math.min(ROUND, left) };
    this.#nextSeed = (this.#nextSeed + 1) % SEEDS;
    this.#handedOut += job.runs;
    return job;
  }

  #count(report: FuzzReport): void {
    this.scenarios += report.runs;
    if (this.#context.io.stderr.isTTY !== true || Date.now() - this.#lastNote < 1000) return;
    this.#lastNote = Date.now();
    this.#context.io.stderr.write(`\r${this.scenarios} scenarios, no difference yet`);
  }
}
