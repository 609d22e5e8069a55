/** Asking the suites whether they notice a mistake in the core. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { build, type Plugin } from "esbuild";
import { ROOT } from "../directions/sources.js";
import type { QuickAnswer, QuickData, QuickJob, SuiteName } from "./quick-worker.js";

/** Milliseconds after which a suite counts as one that never ends. */
const LIMITS: Readonly<Record<SuiteName, number>> = {
  differential: 60_000,
  walk: 120_000,
  mmu: 120_000,
  guests: 240_000,
};

export class QuickSuites {
  #worker: Worker | undefined;

  /** What the first of `suites` notices that notices something about this build of the core. */
  async judge(wasm: Uint8Array, suites: readonly SuiteName[]): Promise<QuickAnswer> {
    for (const suite of suites) {
      this.#worker ??= await startWorker();
      const answer = await ask(this.#worker, { suite, wasm: Uint8Array.from(wasm) });
      if (answer === "timeout") await this.close();
      if (answer !== undefined) return `${suite}: ${answer}`;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }
}

async function startWorker(): Promise<Worker> {
  const suites = (name: string) => bundle(`suites-${name}.ts`, [standIns, ownAddresses]);
  const bundles = { walk: await suites("walk"), mmu: await suites("mmu"), guests: await suites("guests") };
  const worker = await bundle("quick-worker.ts", []);
  return new Worker(worker, { eval: true, workerData: { root: ROOT, bundles } satisfies QuickData });
}

/** For `vitest` the stand-in, for the inlined Wasm the one under test. */
const standIns: Plugin = {
  name: "stand-ins",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^vitest$/ }, () => ({ path: join(ROOT, "scripts", "mutation", "vitest-shim.ts") }));
    onLoad({ filter: /wasm\.generated\.ts$/ }, () => ({ contents: "export const WASM_BASE64 = coreUnderTest;" }));
  },
};

/** Tests look for fixtures beside themselves, not beside the bundle. */
const ownAddresses: Plugin = {
  name: "own addresses",
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]test[\\/].*\.ts$/ }, ({ path }) => {
      const url = JSON.stringify(pathToFileURL(path).href);
      return { contents: readFileSync(path, "utf8").replaceAll("import.meta.url", url), loader: "ts" };
    });
  },
};

async function bundle(name: string, plugins: Plugin[]): Promise<string> {
  const result = await build({
    plugins,
    entryPoints: [join(ROOT, "scripts", "mutation", name)],
    bundle: true,
    // The package says that its modules have no side effects; the suites have: they declare tests.
    ignoreAnnotations: true,
    platform: "node",
    format: "cjs",
    write: false,
    logLevel: "silent",
  });
  return result.outputFiles[0]!.text;
}

function ask(worker: Worker, job: QuickJob): Promise<QuickAnswer> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => done("timeout"), LIMITS[job.suite]);
    const onError = (error: Error) => done(`${error.name}: ${error.message}`);
    const done = (answer: QuickAnswer) => {
      clearTimeout(timer);
      worker.off("message", done).off("error", onError);
      resolve(answer);
    };
    worker.on("message", done).on("error", onError);
    worker.postMessage(job);
  });
}
