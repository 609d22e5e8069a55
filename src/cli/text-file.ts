/** Text files, and pipes that stand for them (`--from <(command)`). */
import { closeSync, constants, createReadStream, openSync, readSync, statSync } from "node:fs";
import { Socket } from "node:net";
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

function pipeChunks(path: string): AsyncIterable<Uint8Array> {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const first = firstBytes(descriptor);
  if (first !== undefined && first.length === 0) {
    closeSync(descriptor);
    throw new CliError(`${path}: expected data, found a pipe that nobody writes to`);
  }
  const rest = new Socket({ fd: descriptor, readable: true, writable: false });
  return (async function* () {
    if (first !== undefined) yield first;
    yield* rest as AsyncIterable<Uint8Array>;
  })();
}

/** What the pipe has: nothing at all where it has no writer, undefined where a writer has not written yet. */
function firstBytes(descriptor: number): Uint8Array | undefined {
  const bytes = new Uint8Array(2 ** 16);
  try {
    return bytes.subarray(0, readSync(descriptor, bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
    closeSync(descriptor);
    throw error;
  }
}
