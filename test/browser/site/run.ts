/** Loads the package in a page or a worker, module by module as it is built, and makes the survey. */
import type * as dumpEntry from "../../../src/dump/browser.js";
import type * as coreEntry from "../../../src/index.js";
import type * as referenceEntry from "../../../src/reference/index.js";
import { type Survey, survey } from "./survey.js";

export interface Task {
  /** URLs of the modules of `x86-paging` and `x86-paging/dump`. */
  readonly core: string;
  readonly dump: string;
  /** URL of the reference to be asked instead of the core. */
  readonly reference?: string;
  /** URL of core.wasm, where the copy in the module is not to be used. */
  readonly wasm?: string;
  /** URL of the dump. */
  readonly file: string;
  /** Inflate the dump first, so that it is read piece by piece. */
  readonly inflate?: boolean;
  readonly addresses: readonly bigint[];
  readonly access: number;
}

export async function run(task: Task): Promise<Survey> {
  const { load } = (await import(task.core)) as typeof coreEntry;
  const { openDumpAsync, registersFromDump } = (await import(task.dump)) as typeof dumpEntry;
  const engine = task.reference
    ? ((await import(task.reference)) as typeof referenceEntry).createReference()
    : await load(task.wasm === undefined ? undefined : new URL(task.wasm, import.meta.url));
  const opened = await openDumpAsync(await fetchBlob(task.file, task.inflate));
  const registers = await opened.fetching(() => registersFromDump(opened.dump));
  return survey(engine, opened, registers, task.addresses, task.access);
}

async function fetchBlob(url: string, inflate = false): Promise<Blob> {
  const response = await fetch(url);
  if (!inflate) return response.blob();
  return new Response(response.body!.pipeThrough(new DecompressionStream("gzip"))).blob();
}
