/** `x86-paging fuzz`: the Wasm core against the reference, or random guests on the MMU, on every processor core. */

import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { type Command, Option } from "commander";
import { KERNELS, type Kernel } from "../../abi/kernel-rules.js";
import { jsonText } from "../../json-text.js";
import type { CliContext } from "../context.js";
import { CliError, ExitCode } from "../errors.js";
import type { FuzzJob, FuzzReport } from "../fuzz-worker.js";
import { loadGuestFuzzer } from "../guest-fuzzer.js";
import { parseInteger } from "../values.js";

/** Scenarios a worker runs before it reports: a fraction of a second. So do that many random guests. */
const ROUND = 500;
const GUEST_ROUND = 5;
/** Seeds are 31-bit, as fast-check takes them. */
const SEEDS = 2 ** 31;

interface FuzzOptions {
  vm?: boolean;
  kernel?: Kernel;
  machine?: string;
  list?: boolean;
  seed?: number;
  runs?: number;
  seconds?: number;
  workers: number;
  json?: boolean;
}

/** What is done in rounds. */
interface Subject {
  /** What a run is called. */
  readonly runs: string;
  readonly round: number;
  /** The guest of the nth round; undefined: the core against the reference. */
  guest(n: number): FuzzJob["guest"];
}

export function registerFuzz(program: Command, context: CliContext): void {
  program
    .command("fuzz")
    .description("compare the Wasm core with the reference over random tables, or run random guests, until Ctrl-C")
    .option("--vm", "random guests on the model of KVM's MMU: shadow and two-dimensional paging, nested guests")
    .addOption(new Option("--kernel <name>", "with --vm: guests under this kernel's rules only").choices([...KERNELS]))
    .option("--machine <word>", "with --vm: machines whose name is this, or else has it in it")
    .option("--list", "with --vm: print the machines' names, and run nothing")
    .option("--seed <n>", "first seed; the same seed and --runs give the same scenarios", parseInteger(0, SEEDS - 1))
    .option("--runs <n>", "stop after this many scenarios or guests", parseInteger(1, Number.MAX_SAFE_INTEGER))
    .option("--seconds <n>", "stop after this time", parseInteger(1, 10 ** 6))
    .option("--workers <n>", "threads", parseInteger(1, 256), availableParallelism())
    .option("--json", "the result as one JSON object")
    .addHelpText(
      "after",
      "\nA difference is shrunk and printed as a scenario for a test; the exit code is 1 then. A random guest does up to a" +
        "\nhundred operations (accesses, edits of tables, switches, changes of slots and of the host's pages); after each one" +
        "\nwhat the processor finds in the built tables is compared with what guest, slots and host allow." +
        "\n\nExamples:\n  x86-paging fuzz\n  x86-paging fuzz --seed 7 --runs 100000\n  x86-paging fuzz --seconds 600 --json" +
        "\n  x86-paging fuzz --vm --seconds 60\n  x86-paging fuzz --vm --kernel 6.12 --machine nested --runs 500",
    )
    .action((options: FuzzOptions) => fuzz(context, options));
}

async function fuzz(context: CliContext, options: FuzzOptions): Promise<void> {
  if (!options.vm && (options.kernel !== undefined || options.machine !== undefined || options.list)) {
    throw new CliError("--kernel, --machine and --list choose random guests: they need --vm");
  }
  const machines = options.vm ? await machinesOf(options.machine) : undefined;
  if (options.list) {
    await context.out.lines(machines!.join("\n"));
    return;
  }
  const seed = options.seed ?? Math.floor(Math.random() * SEEDS);
  const campaign = new Campaign(context, options, seed, machines ? guestsOn(machines, options.kernel) : SCENARIOS);
  const finding = await campaign.run();
  const { done } = campaign;
  const runs = machines === undefined ? { scenarios: done } : { guests: done };
  if (options.json) {
    await context.out.line(jsonText({ seed, ...runs, finding: finding ?? null }));
  } else {
    if (finding) for (const line of findingLines(finding, options.kernel)) await context.out.lines(line);
    const what = machines === undefined ? "difference" : "broken rule";
    await context.out.line(
      `${done} ${campaign.subject.runs} from seed ${seed}: ${finding ? `a ${what}` : `no ${what}`}`,
    );
  }
  if (finding) context.exitCode = ExitCode.Negative;
}

const SCENARIOS: Subject = { runs: "scenarios", round: ROUND, guest: () => undefined };

function guestsOn(machines: readonly string[], kernel: Kernel | undefined): Subject {
  const kernels = kernel === undefined ? KERNELS : [kernel];
  return {
    runs: "guests",
    round: GUEST_ROUND,
    guest: (n) => ({ machine: machines[n % machines.length]!, kernels }),
  };
}

/** The machine of that name, or all that have the word in theirs. */
async function machinesOf(word = ""): Promise<readonly string[]> {
  const { names } = await loadGuestFuzzer();
  if (names.includes(word)) return [word];
  const found = names.filter((name) => name.toLowerCase().includes(word.toLowerCase()));
  if (found.length === 0) throw new CliError(`no machine has "${word}" in its name; --vm --list prints the names`);
  return found;
}

/** A finding in words, a guest's with the command that runs it again. */
export function* findingLines(report: FuzzReport, kernel: Kernel | undefined): IterableIterator<string> {
  const { seed, runs, guest, finding } = report;
  const { path, differences, scenario } = finding!;
  if (guest === undefined) yield `difference at seed ${seed}, path ${path} (core / reference):`;
  else yield `rule broken at seed ${seed}, path ${path}, on ${guest.machine}:`;
  for (const line of differences) yield `  ${line}`;
  if (guest === undefined) {
    yield `const scenario: Scenario = ${scenario};`;
    return;
  }
  yield `  ${scenario}`;
  const under = kernel === undefined ? "" : ` --kernel ${kernel}`;
  yield `again: x86-paging fuzz --vm --machine "${guest.machine}" --seed ${seed} --runs ${runs}${under}`;
}

/** Hands rounds to the workers until a difference is found, the work is done, the time is up or Ctrl-C comes. */
class Campaign {
  done = 0;
  #handedOut = 0;
  #nextSeed: number;
  #stopped = false;
  #lastNote = Date.now();
  readonly #workers: Worker[] = [];
  readonly #context: CliContext;
  readonly #options: FuzzOptions;
  #rounds = 0;

  constructor(
    context: CliContext,
    options: FuzzOptions,
    seed: number,
    readonly subject: Subject,
  ) {
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
      worker.on("message", (report: FuzzReport) => {
        this.#count(report);
        if (report.finding) this.#stopped = true;
        const job = this.#nextJob();
        if (report.finding || job === undefined) resolve(report.finding ? report : undefined);
        else worker.postMessage(job);
      });
      worker.postMessage(first);
    });
  }

  #nextJob(): FuzzJob | undefined {
    const left = (this.#options.runs ?? Number.POSITIVE_INFINITY) - this.#handedOut;
    if (this.#stopped || left <= 0) return undefined;
    const guest = this.subject.guest(this.#rounds++);
    const job = { seed: this.#nextSeed, runs: Math.min(this.subject.round, left), ...(guest && { guest }) };
    this.#nextSeed = (this.#nextSeed + 1) % SEEDS;
    this.#handedOut += job.runs;
    return job;
  }

  #count(report: FuzzReport): void {
    this.done += report.runs;
    if (this.#context.io.stderr.isTTY !== true || Date.now() - this.#lastNote < 1000) return;
    this.#lastNote = Date.now();
    this.#context.io.stderr.write(`\r${this.done} ${this.subject.runs}, nothing found yet`);
  }
}
