/** The page's script: makes what the test calls global. */
import { run, runInWorker } from "./run.js";

/** How many names each module exports. */
async function countExports(urls: readonly string[]): Promise<number[]> {
  return Promise.all(urls.map(async (url) => Object.keys((await import(url)) as object).length));
}

const site = { run, runInWorker, countExports };
export type Site = typeof site;
Object.assign(globalThis, { site });
