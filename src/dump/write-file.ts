/** Writes dumps to files, for Node. */
import { closeSync, existsSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { DumpError } from "./bytes/errors.js";
import { systemReason } from "./bytes/system-reason.js";
import type { WrittenDump } from "./write/written-dump.js";

/** How a file is written. */
export interface WriteDumpOptions {
  /** A file of that name may be replaced. Default false. */
  readonly overwrite?: boolean;
  /** Told of the bytes that are behind: of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Writes a dump under another name first, and gives it its own when it is whole; pages that are all zero are holes in the file.
 * Throws a DumpError where the file is there already or cannot be written, and what reading the memory throws; nothing is left then.
 */
export function writeDumpFile(path: string, dump: WrittenDump, options: WriteDumpOptions = {}): void {
  if (options.overwrite !== true && existsSync(path)) {
    throw new DumpError(path, undefined, "expected no file of that name, found one");
  }
  const partial = `${path}.${process.pid}.partial`;
  const file = attempt(path, () => openSync(partial, "wx"));
  try {
    let open = true;
    try {
      for (const { offset, bytes } of dump.chunks()) {
        attempt(path, () => writeWhole(file, bytes, offset));
        options.onProgress?.(offset, dump.size);
      }
      attempt(path, () => ftruncateSync(file, dump.size));
      open = false;
      attempt(path, () => closeSync(file));
    } finally {
      if (open) closeSync(file);
    }
    attempt(path, () => renameSync(partial, path));
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

function writeWhole(file: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, offset + done);
}

function attempt<T>(path: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw new DumpError(path, undefined, `cannot be written: ${systemReason(error)}`);
  }
}
