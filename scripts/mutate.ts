/**
 * Plants mistakes in the core's sources, one at a time, and lists those that no test notices.
 *
 *     npm run mutate -- [--only PATH]... [--changed [BASE]] [--operators TEXT]... [--sample N] [--seed S] [--list] [--json]
 *
 * A mistake is a small change at a place of the syntax tree (mutation/operators.ts): another operator, one operand only, a
 * constant one more or less, a condition turned round, a statement or a result left out. PATH is a file or folder of
 * assembly (default: all); `--changed` takes only lines that differ from BASE (default: where the branch left main);
 * `--operators TEXT` only changes whose name holds it; `--sample N` takes N of them, chosen by `--seed`; `--list` only
 * prints them. assembly/abi is generated, and held by its own tests.
 *
 * Each is compiled in memory and judged in one process by the suites that say what that folder does, quick ones first
 * (mutation/quick-worker.ts): what they see is seen by `npm test`. Exit code 1 where a mistake survives.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT, sourcesOf } from "./directions/sources.js";
import { changedLines, mergeBase } from "./mutation/changed.js";
import { compileCore } from "./mutation/compile.js";
import { type Mutant, mutantsIn, withMutant } from "./mutation/operators.js";
import { QuickSuites } from "./mutation/quick.js";
import type { SuiteName } from "./mutation/quick-worker.js";
import { sampleOf } from "./mutation/sample.js";

type Verdict = "killed" | "survived" | "same code" | "does not compile";

interface Judged extends Mutant {
  readonly verdict: Verdict;
  /** What noticed it. */
  readonly by?: string;
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string", multiple: true },
    changed: { type: "boolean", default: false },
    operators: { type: "string", multiple: true },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    list: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

/** Which suites judge a file: those of the walk say little of the tables that are built, and take their time. */
function suitesFor(path: string): readonly SuiteName[] {
  if (/^assembly\/(?:walk|memory)\//.test(path)) return ["differential", "walk", "mmu", "guests"];
  return ["mmu", "guests"];
}

const { files, read } = sourcesOf();

function chosenMutants(): Mutant[] {
  if (positionals.length > 0 && !options.changed) throw new Error(`${positionals[0]}: expected --only PATH`);
  const only = options.only ?? ["assembly"];
  const folders = only.map((one) => one.replace(/\/$/, ""));
  for (const one of folders)
    if (!existsSync(join(ROOT, one))) throw new Error(`${one}: there is no such file or folder`);
  const lines = options.changed ? changedLines(positionals[0] ?? mergeBase(), ["assembly"]) : undefined;
  const mutants = files
    .filter((path) => /^assembly\/(?!abi\/|testing\.ts)/.test(path))
    .filter((path) => folders.some((one) => path === one || path.startsWith(`${one}/`)))
    .filter((path) => lines === undefined || lines.has(path))
    .flatMap((path) => mutantsIn(path, read(path)))
    .filter(({ path, line }) => lines === undefined || lines.get(path)!.has(line))
    .filter(({ operator }) => options.operators?.some((one) => operator.includes(one)) ?? true);
  return options.sample === undefined ? mutants : sampleOf(mutants, Number(options.sample), Number(options.seed));
}

/** Compiles ahead: the suites run on a thread of their own. */
async function judgeAll(mutants: readonly Mutant[], suites: QuickSuites): Promise<Judged[]> {
  const baseline = await compileCore();
  if (baseline === undefined) throw new Error("the core does not compile");
  const everySuite = [...new Set(mutants.flatMap(({ path }) => suitesFor(path)))];
  const found = await suites.judge(baseline, everySuite);
  if (found !== undefined) throw new Error(`the suites fail without a mistake: ${found}`);
  const judged: Judged[] = [];
  let judging: Promise<void> = Promise.resolve();
  for (const mutant of mutants) {
    const wasm = await compileCore(mutant.path, withMutant(read(mutant.path), mutant));
    await judging;
    judging = verdictOn(mutant, wasm, baseline, suites).then((one) => {
      judged.push(one);
      if (one.verdict === "survived") console.error(describe(one));
      if (judged.length % 20 === 0) console.error(`${judged.length} of ${mutants.length}`);
    });
  }
  await judging;
  return judged;
}

async function verdictOn(
  mutant: Mutant,
  wasm: Uint8Array | undefined,
  baseline: Uint8Array,
  suites: QuickSuites,
): Promise<Judged> {
  if (wasm === undefined) return { ...mutant, verdict: "does not compile" };
  if (Buffer.compare(wasm, baseline) === 0) return { ...mutant, verdict: "same code" };
  const by = await suites.judge(wasm, suitesFor(mutant.path));
  return by === undefined ? { ...mutant, verdict: "survived" } : { ...mutant, verdict: "killed", by };
}

function describe({ path, line, operator, original, text }: Mutant): string {
  const short = (source: string) => source.replace(/\s+/g, " ").slice(0, 100);
  return `${path}:${line}: ${operator}: ${short(original)} -> ${short(text) || "nothing"}`;
}

function report(judged: readonly Judged[]): void {
  if (options.json) console.log(JSON.stringify(judged, null, 1));
  const paths = [...new Set(judged.map(({ path }) => path))];
  for (const path of [...paths, undefined]) {
    const some = judged.filter((one) => path === undefined || one.path === path);
    const count = (verdict: Verdict) => some.filter((one) => one.verdict === verdict).length;
    const rest = `${count("same code")} same code, ${count("does not compile")} not compiled`;
    console.error(`${path ?? "all"}: ${count("killed")} killed, ${count("survived")} survived, ${rest}`);
  }
  process.exitCode = judged.some((one) => one.verdict === "survived") ? 1 : 0;
}

const mutants = chosenMutants();
if (options.list) for (const one of mutants) console.log(describe(one));
else if (mutants.length === 0) console.error("nothing to plant a mistake in");
else {
  const suites = new QuickSuites();
  try {
    report(await judgeAll(mutants, suites));
  } finally {
    await suites.close();
  }
}
