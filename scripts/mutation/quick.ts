/** Asking the quick suite whether it notices a mistake. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import type { QuickAnswer, QuickJob } from "./quick-worker.js";
import type { Tree } from "./tree.js";

/** Preparing the cases and running them takes some seconds; what takes this long does not end. */
const LIMIT = 30_000;

export class QuickSuite {
  #worker: Worker | undefined;

  constructor(readonly tree: Tree) {}

  /** What the suite notices about this build of the core; undefined where it passes. */
  async judgeWasm(wasm: Uint8Array): Promise<QuickAnswer> {
    this.#worker ??= new Worker(await this.#bundle(), { eval: true });
    const answer = await ask(this.#worker, { wasm: Uint8Array.from(wasm) });
    if (answer === "timeout") await this.close();
    return answer;
  }

  /** The same for the sources as they are in the tree. */
  async judgeSources(): Promise<QuickAnswer> {
    const worker = new Worker(await this.#bundle(), { eval: true });
    try {
      return await ask(worker, {});
    } finally {
      await worker.terminate();
    }
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  async #bundle(): Promise<string> {
    const result = await build({
      entryPoints: [join(this.tree.root, "scripts", "mutation", "quick-worker.ts")],
      bundle: true,
      platform: "node",
      format: "cjs",
      write: false,
      logLevel: "silent",
    });
    return result.outputFiles[0]!.text;
  }
}

function ask(worker: Worker, job: QuickJob): Promise<QuickAnswer> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => done("timeout"), LIMIT);
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
