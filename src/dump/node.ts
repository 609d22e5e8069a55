/** Memory dumps in files, for Node. */
import { closeSync, createReadStream, fstatSync, openSync, readSync } from "node:fs";
import { createGunzip } from "node:zlib";
import type { ByteSource } from "./byte-source.js";
import type { Dump } from "./dump.js";
import { DumpError } from "./errors.js";
import { isGzip } from "./gzip.js";
import { type OpenDumpOptions, openDump } from "./open.js";
import { SparseStore } from "./sparse-store.js";

export * from "./index.js";

/** A byte source over an open file. */
export class FileByteSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #descriptor: number;

  /** Opens the file for reading; throws a DumpError where that is not possible. */
  constructor(path: string) {
    this.name = path;
    try {
      this.#descriptor = openSync(path, "r");
    } catch (error) {
      throw new DumpError(path, undefined, `cannot be opened: ${systemReason(error)}`);
    }
    const stat = fstatSync(this.#descriptor);
    if (!stat.isFile()) {
      closeSync(this.#descriptor);
      throw new DumpError(path, undefined, "expected a regular file");
    }
    this.size = stat.size;
  }

  read(offset: number, into: Uint8Array): number {
    let done = 0;
    while (done < into.length) {
      let count: number;
      try {
        count = readSync(this.#descriptor, into, done, into.length - done, offset + done);
      } catch (error) {
        throw new DumpError(this.name, offset + done, `cannot be read: ${systemReason(error)}`);
      }
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

export interface OpenDumpFileOptions extends OpenDumpOptions {
  /** Told of the progress of inflating a gzip file: compressed bytes done, of how many. */
  readonly onInflate?: (done: number, total: number) => void;
}

/**
 * Opens a dump file; a gzip file is inflated once, as a stream, and its non-zero pages are kept in memory.
 * Throws a DumpError before anything is returned if the dump is not whole.
 */
export async function openDumpFile(path: string, options: OpenDumpFileOptions = {}): Promise<Dump> {
  const file = new FileByteSource(path);
  const head = new Uint8Array(2);
  try {
    file.read(0, head);
    if (!isGzip(head)) return openDump(file, { ...options, onClose: () => file.close() });
  } catch (error) {
    file.close();
    throw error;
  }
  try {
    const store = await inflate(file, options.onInflate);
    return openDump(store, { ...options, compressed: true });
  } finally {
    file.close();
  }
}

/** Inflates a gzip file whole; members may follow each other, and zero bytes may follow the last one, as gzip(1) has it. */
async function inflate(file: FileByteSource, onProgress: OpenDumpFileOptions["onInflate"]): Promise<SparseStore> {
  const store = new SparseStore(file.name);
  const input = createReadStream(file.name, { highWaterMark: 2 ** 18 });
  const gunzip = createGunzip({ chunkSize: 2 ** 18 });
  input.on("error", (error) => gunzip.destroy(error));
  let read = 0;
  input.on("data", (chunk) => {
    read += chunk.length;
  });
  try {
    for await (const chunk of input.pipe(gunzip)) {
      store.append(chunk as Uint8Array);
      onProgress?.(Math.min(gunzip.bytesWritten, file.size), file.size);
    }
  } catch (error) {
    input.destroy();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "Z_BUF_ERROR") {
      throw new DumpError(file.name, file.size, "expected more gzip data, but the file breaks off");
    }
    if (code?.startsWith("Z_")) {
      const upTo = `after 0x${store.size.toString(16)} inflated bytes`;
      throw new DumpError(file.name, undefined, `broken gzip data ${upTo}: ${(error as Error).message}`);
    }
    throw new DumpError(file.name, read, `cannot be read: ${systemReason(error)}`);
  }
  input.destroy();
  rejectGarbage(file, gunzip.bytesWritten);
  store.finish();
  return store;
}

/** Node ends a gzip stream silently at a zero byte behind a member: only zeros may follow. */
function rejectGarbage(file: FileByteSource, from: number): void {
  const chunk = new Uint8Array(2 ** 16);
  for (let at = from; at < file.size; at += chunk.length) {
    const count = file.read(at, chunk);
    const garbage = chunk.subarray(0, count).findIndex((byte) => byte !== 0);
    if (garbage >= 0)
      throw new DumpError(file.name, at + garbage, "expected the end of the gzip data, found more bytes");
  }
}

/** The system's reason without its path and call, e.g. "no such file or directory". */
function systemReason(error: unknown): string {
  const message = (error as Error).message;
  return /^E[A-Z]+: ([^,]+)/.exec(message)?.[1] ?? message;
}
