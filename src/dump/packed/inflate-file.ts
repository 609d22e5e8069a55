/** Inflates a compressed file, for Node. */
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { WebAbortSignal } from "../../platform.js";
import { readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import type { FileByteSource } from "../bytes/file-byte-source.js";
import { type PageStorage, SparseStore } from "../bytes/sparse-store.js";
import { systemReason } from "../bytes/system-reason.js";
import { CodecError } from "../codec/codec.js";
import { isRaw, type RawOptions } from "../formats/raw.js";
import { declaredSize } from "./declared-size.js";
import { checkDeclaredSize, type Inflate, inflateInto } from "./inflate.js";
import { inflationLimits, type Packing } from "./packing.js";

/** Compressed and inflated bytes are handed on in chunks of this size. */
const CHUNK = 2 ** 18;

export interface InflateOptions extends RawOptions {
  readonly maxInflated?: number;
  readonly onInflate?: (done: number, total: number) => void;
  readonly signal?: WebAbortSignal;
}

/**
 * Inflates a file whole. Of gzip, members may follow each other, and zero bytes may follow the last one, as gzip(1) has it.
 * Whether it is a dump at all is decided by its first block. What is behind a place where the data breaks off is missing,
 * which is said. Throws a DumpError.
 */
export async function inflateFile(
  file: FileByteSource,
  packing: Packing,
  pages: PageStorage,
  options: InflateOptions,
): Promise<{ readonly store: SparseStore; readonly warnings: readonly string[] }> {
  const { maxInflated, onInflate } = options;
  const limits = inflationLimits(file.size, maxInflated);
  const declared = await declaredSize(packing, file.size, async (offset, length) => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
    return bytes.subarray(0, file.read(Math.max(0, offset), bytes));
  });
  checkDeclaredSize(file.name, packing, declared, limits);
  const store = new SparseStore(file.name, { ...limits, pages });
  const warnings = await inflateInto({
    name: file.name,
    packing,
    input: chunksOf(file, onInflate),
    inflate: await inflaterOf(packing, file),
    store,
    declared,
    raw: isRaw(options),
    signal: options.signal as AbortSignal | undefined,
  });
  return { store, warnings };
}

async function inflaterOf(packing: Packing, file: FileByteSource): Promise<Inflate> {
  if (packing === "xz") return (await import("../codec/xz.js")).unpackXzStream;
  if (packing === "zstd") return (await import("../codec/zstd.js")).unpackZstdStream;
  return (input, ended) => gunzip(file, input, ended);
}

async function* gunzip(
  file: FileByteSource,
  input: AsyncIterable<Uint8Array>,
  ended: (truncated: boolean) => void,
): AsyncIterable<Uint8Array> {
  const readable = Readable.from(input);
  const stream = createGunzip({ chunkSize: CHUNK });
  readable.on("error", (error) => stream.destroy(error));
  try {
    for await (const chunk of readable.pipe(stream)) yield chunk as Uint8Array;
  } catch (error) {
    if (error instanceof DumpError) throw error;
    // All that could be inflated came before.
    if ((error as NodeJS.ErrnoException).code !== "Z_BUF_ERROR") throw new CodecError(systemReason(error));
    ended(true);
    return;
  } finally {
    readable.destroy();
    stream.destroy();
  }
  rejectGarbage(file, stream.bytesWritten);
}

async function* chunksOf(
  file: FileByteSource,
  onInflate: ((done: number, total: number) => void) | undefined,
): AsyncIterable<Uint8Array> {
  for (let at = 0; at < file.size; at += CHUNK) {
    const chunk = new Uint8Array(Math.min(CHUNK, file.size - at));
    readFully(file, at, chunk, "compressed data");
    yield chunk;
    onInflate?.(at + chunk.length, file.size);
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
