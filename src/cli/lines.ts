/** Lines of text files, gzip or not. */
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { CliError } from "./errors.js";

/** The lines of `input`; a stream that fails is a CliError that begins with `name`. */
export async function* linesOf(input: Readable, name: string): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for await (const chunk of input) {
      const lines = (rest + (typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true }))).split("\n");
      rest = lines.pop()!;
      yield* lines;
    }
  } catch (error) {
    throw readError(error, name);
  }
  if (rest !== "") yield rest;
}

/** The lines of a file; gzip is recognised by its first two bytes. */
export async function* linesOfFile(path: string): AsyncIterable<string> {
  const gzip = await isGzip(path);
  const file = createReadStream(path);
  if (!gzip) {
    yield* linesOf(file, path);
    return;
  }
  const inflated = createGunzip();
  file.on("error", (error) => inflated.destroy(error));
  yield* linesOf(file.pipe(inflated), path);
}

async function isGzip(path: string): Promise<boolean> {
  try {
    const file = await open(path);
    try {
      const start = new Uint8Array(2);
      const { bytesRead } = await file.read(start, 0, 2, 0);
      return bytesRead === 2 && start[0] === 0x1f && start[1] === 0x8b;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw readError(error, path);
  }
}

function readError(error: unknown, name: string): unknown {
  const { message, syscall, code } = error as NodeJS.ErrnoException;
  if (code?.startsWith("Z_") || code === "ERR_STREAM_PREMATURE_CLOSE") {
    return new CliError(`${name}: the gzip data are damaged or break off: ${message}`);
  }
  if (syscall === undefined) return error;
  return new CliError(`${name}: cannot be read: ${/^E[A-Z]+: ([^,]+)/.exec(message)?.[1] ?? message}`);
}
