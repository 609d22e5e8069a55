/** Asking the quick suites whether they notice a mistake. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { build, type Plugin } from "esbuild";
import type { QuickAnswer, QuickData, QuickJob } from "./quick-worker.js";
import type { Tree } from "./tree.js";

/** Milliseconds after which a suite counts as one that never ends. */
const LIMITS = { differential: 30_000, walk: 120_000 };

export class QuickSuite {
  #worker: Worker | undefined;

  constructor(readonly tree: Tree) {}

  /** What the suites notice about this build of the core; undefined where they pass. */
  async judgeWasm(wasm: Uint8Array): Promise<QuickAnswer> {
    this.#worker ??= await this.#start();
    const answer = await judge(this.#worker, Uint8Array.from(wasm));
    if (answer === "timeout") await this.close();
    return answer;
  }

  /** The same for the sources as they are in the tree. */
  async judgeSources(): Promise<QuickAnswer> {
    const worker = await this.#start();
    try {
      return await judge(worker, undefined);
    } finally {
      await worker.terminate();
    }
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  async #start(): Promise<Worker> {
    const { root } = this.tree;
    const url = pathToFileURL(join(root, "test", "conform", "fixtures.test.ts")).href;
    const suites = await bundle(join(root, "scripts", "mutation", "walk-suites.ts"), {
      plugins: [standIns(root)],
      define: { "import.meta.url": JSON.stringify(url) },
    });
    const worker = await bundle(join(root, "scripts", "mutation", "quick-worker.ts"), {});
    return new Worker(worker, { eval: true, workerData: { root, suites } satisfies QuickData });
  }
}

/** For `vitest` the stand-in, for the inlined Wasm the one under test. */
function standIns(root: string): Plugin {
  return {
    name: "stand-ins",
    setup(build) {
      build.onResolve({ filter: /^vitest$/ }, () => ({ path: join(root, "scripts", "mutation", "vitest-shim.ts") }));
      build.onLoad({ filter: /wasm\.generated\.ts$/ }, () => ({
        contents: "export const WASM_BASE64 = coreUnderTest;",
      }));
    },
  };
}

async function bundle(
  entry: string,
  options: { plugins?: Plugin[]; define?: Record<string, string> },
): Promise<string> {
  const result = await build({
    ...options,
    entryPoints: [entry],
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

async function judge(worker: Worker, wasm: Uint8Array<ArrayBuffer> | undefined): Promise<QuickAnswer> {
  const job = wasm === undefined ? {} : { wasm };
  return (await ask(worker, { ...job, suite: "differential" })) ?? (await ask(worker, { ...job, suite: "walk" }));
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
