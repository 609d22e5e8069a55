/** Text files, and pipes that stand for them (`--from <(command)`). */
import { closeSync, constants, createReadStream, openSync, readSync, statSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { CliError } from "./errors.js";

export interface TextFile {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** Length in bytes when it was opened; 0 where that is not known. */
  readonly size: number;
}

/**
 * Opens what is at `path`. Throws a CliError for a folder and a socket, and for a pipe that nobody has opened to write
 * to: opening that would wait, perhaps for ever.
 */
export function openText(path: string): TextFile {
  try {
    const stat = statSync(path);
    if (stat.isDirectory()) throw new CliError(`${path}: cannot be read: expected a file, found a folder`);
    if (stat.isFIFO()) return { chunks: pipeChunks(path), size: 0 };
    return { chunks: createReadStream(path), size: stat.size };
  } catch (error) {
    if (error instanceof CliError) throw error;
    const { message } = error as Error;
    throw new CliError(`${path}: cannot be read: ${/^E[A-Z]+: ([^,]+)/.exec(message)?.[1] ?? message}`);
  }
}

/** Bytes of a pipe that are read at once, and the time in ms until it is looked at again where it has none. */
const CHUNK = 2 ** 16;
const PATIENCE = 10;

function pipeChunks(path: string): AsyncIterable<Uint8Array> {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  let first: Uint8Array | undefined;
  try {
    first = available(descriptor);
    if (first?.length === 0) throw new CliError(`${path}: expected data, found a pipe that nobody writes to`);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  return restOf(descriptor, first);
}

/** What a pipe has and will have, until its last writer is gone. */
async function* restOf(descriptor: number, first: Uint8Array | undefined): AsyncIterable<Uint8Array> {
  try {
    for (let chunk = first; chunk?.length !== 0; chunk = available(descriptor)) {
      if (chunk === undefined) await setTimeout(PATIENCE);
      else yield chunk;
    }
  } finally {
    closeSync(descriptor);
  }
}

/** What a pipe has: nothing at all where it has no writer any more, undefined where a writer has not written yet. */
function available(descriptor: number): Uint8Array | undefined {
  const bytes = new Uint8Array(CHUNK);
  try {
    return bytes.subarray(0, readSync(descriptor, bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
    throw error;
  }
}
