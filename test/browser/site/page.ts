/** The page's script: makes what the test calls global. */
import type * as coreEntry from "../../../src/index.js";
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

/** What both ways of loading the core come to: the number of slots of a new memory, or the error. */
async function tryToLoad(url: string): Promise<(number | string)[]> {
  const { load, loadSync } = (await import(url)) as typeof coreEntry;
  const failed = (error: unknown) => `${(error as Error).name}: ${(error as Error).message}`;
  const later = await load().then((core) => core.createMemory({}).slots.length, failed);
  try {
    return [later, loadSync().createMemory({}).slots.length];
  } catch (error) {
    return [later, failed(error)];
  }
}

const site = { run, runInWorker, countExports, tryToLoad };
export type Site = typeof site;
Object.assign(globalThis, { site });
