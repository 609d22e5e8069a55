/** Inflates a gzip file, for Node. */
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { readFully } from "./byte-source.js";
import { DumpError } from "./errors.js";
import type { FileByteSource } from "./file-byte-source.js";
import { inflationLimits } from "./gzip.js";
import { checkFirstBytes, FIRST_BYTES } from "./open.js";
import { type PageStorage, SparseStore } from "./sparse-store.js";
import { systemReason } from "./system-reason.js";

/** Compressed and inflated bytes are handed on in chunks of this size. */
const CHUNK = 2 ** 18;

export interface InflateOptions {
  readonly rawOffset?: bigint;
  readonly maxInflated?: number;
  readonly onInflate?: (done: number, total: number) => void;
}

/**
 * Inflates a gzip file whole; members may follow each other, and zero bytes may follow the last one, as gzip(1) has it.
 * Whether it is a dump at all is decided by its first block. Throws a DumpError.
 */
export async function inflateFile(
  file: FileByteSource,
  pages: PageStorage,
  { rawOffset, maxInflated, onInflate }: InflateOptions,
): Promise<SparseStore> {
  const store = new SparseStore(file.name, { ...inflationLimits(file.size, maxInflated), pages });
  const input = Readable.from(chunksOf(file));
  const gunzip = createGunzip({ chunkSize: CHUNK });
  input.on("error", (error) => gunzip.destroy(error));
  let decided = rawOffset !== undefined;
  try {
    for await (const chunk of input.pipe(gunzip)) {
      store.append(chunk as Uint8Array);
      if (!decided && store.size >= FIRST_BYTES) {
        checkFirstBytes(store);
        decided = true;
      }
      onInflate?.(Math.min(gunzip.bytesWritten, file.size), file.size);
    }
  } catch (error) {
    if (error instanceof DumpError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === "Z_BUF_ERROR") {
      throw new DumpError(file.name, file.size, "expected more gzip data, but the file breaks off");
    }
    const upTo = `after 0x${store.size.toString(16)} inflated bytes`;
    throw new DumpError(file.name, undefined, `broken gzip data ${upTo}: ${systemReason(error)}`);
  } finally {
    input.destroy();
    gunzip.destroy();
  }
  rejectGarbage(file, gunzip.bytesWritten);
  store.finish();
  return store;
}

function* chunksOf(file: FileByteSource): Iterable<Uint8Array> {
  for (let at = 0; at < file.size; at += CHUNK) {
    const chunk = new Uint8Array(Math.min(CHUNK, file.size - at));
    readFully(file, at, chunk, "gzip data");
    yield chunk;
  }
}

/** Node ends a gzip stream silently at a zero byte behind a member: only zeros may follow. */
function rejectGarbage(file: FileByteSource, from: number): void {
  for (let at = from; at < file.size; at += CHUNK) {
    const chunk = new Uint8Array(Math.min(CHUNK, file.size - at));
    readFully(file, at, chunk, "the end of the file");
    const garbage = chunk.findIndex((byte) => byte !== 0);
    if (garbage >= 0)
      throw new DumpError(file.name, at + garbage, "expected the end of the gzip data, found more bytes");
  }
}
