/** Opens a dump from files, whichever they are, with progress where all of a file is read. */
import { type AsyncDump, type BlobLike, openDumpAsync, type RawOptions } from "x86-paging/dump";
import { blobOf, type InputFile } from "../served-file.js";
import type { RunningTask } from "../tasks.js";

/** Most bytes that are not zero which a packed dump may have, so that a page stays small. */
const MOST_KEPT = 2 ** 28;

/** Bytes of a file that are kept, where it is read piece by piece. */
const MOST_CACHED = 2 ** 25;

/** Throws what `openDumpAsync` throws: DumpError for what is none. */
export async function openInput(files: readonly InputFile[], raw: RawOptions, task: RunningTask): Promise<AsyncDump> {
  const blobs = files.map((file) => new CountedBlob(blobOf(file), file.name, task));
  const [first, ...parts] = blobs;
  if (first === undefined) throw new Error("expected a file, found none");
  try {
    return await openDumpAsync(first, {
      ...raw,
      ...{ name: first.name, maxKept: MOST_KEPT, maxCached: MOST_CACHED, parts, signal: task.signal },
    });
  } finally {
    for (const blob of blobs) blob.task = undefined;
  }
}

/** While a task reads it, says how much was read, and lets the worker's other calls in. */
class CountedBlob implements BlobLike {
  readonly name: string;
  readonly size: number;
  task: RunningTask | undefined;
  readonly #blob: BlobLike;

  constructor(blob: BlobLike, name: string, task: RunningTask) {
    this.name = name;
    this.size = blob.size;
    this.#blob = blob;
    this.task = task;
  }

  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> } {
    return {
      arrayBuffer: async () => {
        const bytes = await this.#blob.slice(start, end).arrayBuffer();
        await this.task?.turn(end / this.size);
        return bytes;
      },
    };
  }
}
