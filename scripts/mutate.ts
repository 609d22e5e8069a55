/**
 * Plants mistakes in the sources, one at a time, and lists those that no test notices.
 *
 *     npm run mutate -- [--files PREFIX]... [--operators NAME]... [--sample N] [--seed N] [--suite quick|near|all] [--json]
 *     npm run mutate -- --planted [--files PREFIX]...
 *
 * PREFIX is a file or folder (default assembly/walk and assembly/memory); `--sample N` takes N of the mistakes, chosen
 * by `--seed`. A mistake in the core or in what it shares with the reference is judged by a quick differential suite
 * first, and where that passes (or for other files at once) by the tests of its own area and then by all of them;
 * `--suite` says how far that goes (default all). `--planted` takes the lists of mutation/planted*.ts instead.
 * Works in a copy of the repository in the system's folder for temporary files. Exit code 1 where a mistake survives.
 */
import { parseArgs } from "node:util";
import { transform } from "esbuild";
import { ALL_PLANTED } from "./mutation/all-planted.js";
import { assemblyFamilies, hostSibling } from "./mutation/families.js";
import { type Replacement, replacementsIn } from "./mutation/operators.js";
import { QuickSuite } from "./mutation/quick.js";
import { allPass, nearestPass } from "./mutation/suites.js";
import { tokensOf } from "./mutation/tokens.js";
import { Tree } from "./mutation/tree.js";

type Verdict = "killed" | "survived" | "same code" | "does not compile";

interface Mutant extends Replacement {
  readonly path: string;
  readonly line: number;
  readonly original: string;
}

interface Judged extends Mutant {
  readonly verdict: Verdict;
}

const { values: options } = parseArgs({
  options: {
    files: { type: "string", multiple: true },
    operators: { type: "string", multiple: true },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
    planted: { type: "boolean", default: false },
    suite: { type: "string", default: "all" },
    json: { type: "boolean", default: false },
  },
});

/** What the quick suite runs. */
const DIFFERENTIAL = /^(?:assembly|src\/(?:core|abi|reference)\/)/;

function mutantsOf(tree: Tree, path: string): Mutant[] {
  const text = tree.read(path);
  const assembly = path.startsWith("assembly/");
  const abi = ["bits", "codes", "layout"].map((name) => tree.read(`assembly/abi/${name}.ts`));
  const sibling = assembly ? assemblyFamilies(abi) : hostSibling;
  return replacementsIn({ text, tokens: tokensOf(text), sibling, assembly }).map((one) => ({
    ...one,
    path,
    line: text.slice(0, one.start).split("\n").length,
    original: text.slice(one.start, one.end),
  }));
}

/** The mistakes of mutation/planted*.ts. */
function plantedMutants(tree: Tree, prefixes: readonly string[]): Mutant[] {
  const chosen = ALL_PLANTED.filter(({ path }) => prefixes.some((prefix) => path.startsWith(prefix)));
  return chosen.map(({ rule, path, original, text }) => {
    const [before, ...after] = tree.read(path).split(original);
    if (after.length !== 1) throw new Error(`${path}: ${rule}: the text to replace stands there ${after.length} times`);
    const start = before!.length;
    const line = before!.split("\n").length;
    return { operator: rule, start, end: start + original.length, text, path, line, original };
  });
}

function everyMutant(tree: Tree): Mutant[] {
  if (options.planted) return plantedMutants(tree, options.files ?? [""]);
  return (options.files ?? ["assembly/walk", "assembly/memory"])
    .flatMap((prefix) => tree.files(prefix))
    .flatMap((path) => mutantsOf(tree, path))
    .filter((one) => options.operators?.includes(one.operator) ?? true);
}

/** `count` of the mutants in their order, chosen by `seed` (mulberry32). */
function sampleOf(mutants: readonly Mutant[], count: number, seed: number): Mutant[] {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  const keyed = mutants.map((mutant, index) => ({ mutant, index, key: random() }));
  const chosen = keyed.sort((a, b) => a.key - b.key).slice(0, count);
  return chosen.sort((a, b) => a.index - b.index).map((one) => one.mutant);
}

class Judge {
  readonly #quick: QuickSuite;

  constructor(
    readonly tree: Tree,
    readonly baseline: Uint8Array,
  ) {
    this.#quick = new QuickSuite(tree);
  }

  /** Throws where the suites fail without a mistake: everything would seem to be noticed then. */
  async checkBaseline(mutants: readonly Mutant[]): Promise<void> {
    const found = await this.#quick.judgeWasm(this.baseline);
    if (found !== undefined) throw new Error(`the quick suite fails without a mistake: ${found}`);
    if (options.suite === "quick") return;
    const folders = new Map(mutants.map((one) => [one.path.split("/").slice(0, 2).join("/"), one]));
    for (const [folder, mutant] of folders) {
      if (!(await this.#testsPass(mutant))) throw new Error(`the tests of ${folder} fail without a mistake`);
    }
  }

  async judge(mutant: Mutant): Promise<Verdict> {
    const original = this.tree.read(mutant.path);
    const text = original.slice(0, mutant.start) + mutant.text + original.slice(mutant.end);
    if (mutant.path.startsWith("assembly/")) return this.#judgeAssembly(mutant, text);
    const [before, after] = await Promise.all([javaScript(original), javaScript(text)]);
    if (after === undefined) return "does not compile";
    if (before === after) return "same code";
    this.tree.write(mutant.path, text);
    try {
      return await this.#judgeSource(mutant);
    } finally {
      this.tree.write(mutant.path, original);
      if (mutant.path.startsWith("src/abi/")) {
        this.tree.generate();
        this.tree.inline(this.baseline);
      }
    }
  }

  async #judgeAssembly(mutant: Mutant, text: string): Promise<Verdict> {
    const wasm = await this.tree.compile(mutant.path, text);
    if (wasm === undefined) return "does not compile";
    if (Buffer.compare(wasm, this.baseline) === 0) return "same code";
    if ((await this.#quick.judgeWasm(wasm)) !== undefined) return "killed";
    if (options.suite === "quick") return "survived";
    this.tree.inline(wasm);
    try {
      return (await this.#testsPass(mutant)) ? "survived" : "killed";
    } finally {
      this.tree.inline(this.baseline);
    }
  }

  async #judgeSource(mutant: Mutant): Promise<Verdict> {
    if (mutant.path.startsWith("src/abi/")) {
      const wasm = this.tree.generate() ? await this.tree.compile() : undefined;
      if (wasm === undefined) return "does not compile";
      this.tree.inline(wasm);
    }
    if (DIFFERENTIAL.test(mutant.path) && (await this.#quick.judgeSources()) !== undefined) return "killed";
    if (options.suite === "quick") return "survived";
    return (await this.#testsPass(mutant)) ? "survived" : "killed";
  }

  async #testsPass({ path }: Mutant): Promise<boolean> {
    return (await nearestPass(this.tree, path)) && (options.suite === "near" || (await allPass(this.tree)));
  }

  close(): Promise<void> {
    return this.#quick.close();
  }
}

/** What is left of a TypeScript file when types and comments are gone; undefined for a syntax error. */
async function javaScript(text: string): Promise<string | undefined> {
  try {
    return (await transform(text, { loader: "ts", minifyWhitespace: true })).code;
  } catch {
    return undefined;
  }
}

function describe({ path, line, operator, original, text }: Mutant): string {
  const short = (source: string) => source.replace(/\s+/g, " ").slice(0, 120);
  return `${path}:${line}: ${operator}: ${short(original)} -> ${short(text) || "nothing"}`;
}

async function main(): Promise<void> {
  const tree = new Tree();
  try {
    tree.generate();
    const baseline = await tree.compile();
    if (baseline === undefined) throw new Error("the core does not compile");
    tree.inline(baseline);
    const all = everyMutant(tree);
    const mutants = options.sample === undefined ? all : sampleOf(all, Number(options.sample), Number(options.seed));
    const judge = new Judge(tree, baseline);
    await judge.checkBaseline(mutants);
    const judged: Judged[] = [];
    for (const mutant of mutants) {
      const verdict = await judge.judge(mutant);
      judged.push({ ...mutant, verdict });
      if (verdict === "survived") console.error(describe(mutant));
      if (judged.length % 100 === 0) console.error(`${judged.length} of ${mutants.length}`);
    }
    await judge.close();
    report(judged);
  } finally {
    tree.dispose();
  }
}

function report(judged: readonly Judged[]): void {
  const count = (verdict: Verdict) => judged.filter((one) => one.verdict === verdict).length;
  if (options.json) console.log(JSON.stringify(judged, null, 1));
  else for (const one of judged) if (one.verdict === "survived") console.log(describe(one));
  const rest = `${count("same code")} same code, ${count("does not compile")} not compiled`;
  console.error(`${judged.length} mistakes: ${count("killed")} killed, ${count("survived")} survived, ${rest}`);
  process.exitCode = count("survived") === 0 ? 0 : 1;
}

await main();
