/** The page's script: makes what the test calls global. */
import { run, type Task } from "./run.js";
import type { Survey } from "./survey.js";

/** What `run` does, in a module worker. */
export function runInWorker(task: Task): Promise<Survey> {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Promise<Survey>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Survey>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message || "the worker cannot be loaded"));
    worker.postMessage(task);
  }).finally(() => worker.terminate());
}

/** How many names each module exports. */
async function countExports(urls: readonly string[]): Promise<number[]> {
  return Promise.all(urls.map(async (url) => Object.keys((await import(url)) as object).length));
}

const site = { run, runInWorker, countExports };
export type Site = typeof site;
Object.assign(globalThis, { site });
