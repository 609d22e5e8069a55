/** Memory dumps in a browser: bytes in memory, or a Blob (a chosen file) of any size that is read piece by piece. */
import type { ByteSource } from "./byte-source.js";
import { MemoryByteSource } from "./byte-source.js";
import type { Dump } from "./dump.js";
import { DumpError } from "./errors.js";
import { inflationLimits, isGzip } from "./gzip.js";
import { checkFirstBytes, FIRST_BYTES, type OpenDumpOptions, openDump } from "./open.js";
import { SparseStore } from "./sparse-store.js";

export * from "./index.js";

/** Bytes of a Blob are fetched and kept in pieces of this size (bytes). */
const PIECE = 2 ** 18;
/** Pages of an inflated dump stay in memory here: so many bytes of them unless the caller allows more. */
const KEPT = 2 ** 29;

/** A piece of a Blob has not been fetched yet: thrown by a read, answered by `BlobByteSource.fetching`. */
export class MissingPieceError extends Error {
  override name = "MissingPieceError";
  readonly piece: number;

  constructor(piece: number) {
    super(`bytes from 0x${(piece * PIECE).toString(16)} on have not been fetched; use fetching()`);
    this.piece = piece;
  }
}

/** A byte source over a Blob. A Blob can only be read asynchronously, so reads happen inside `fetching`. */
export class BlobByteSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #blob: Blob;
  readonly #pieces = new Map<number, Uint8Array>();

  constructor(blob: Blob, name: string) {
    this.#blob = blob;
    this.name = name;
    this.size = blob.size;
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const number = Math.floor(at / PIECE);
      const piece = this.#pieces.get(number);
      if (piece === undefined) throw new MissingPieceError(number);
      const part = piece.subarray(at % PIECE, (at % PIECE) + length - done);
      if (part.length === 0) break;
      into.set(part, done);
      done += part.length;
    }
    return done;
  }

  /**
   * Runs `operation` again and again, fetching the piece of the Blob that it missed, until it misses none.
   * The operation must have no effect before its last read (translating, walking, opening a dump have none).
   */
  async fetching<T>(operation: () => T): Promise<T> {
    for (;;) {
      try {
        return operation();
      } catch (error) {
        if (!(error instanceof MissingPieceError) || this.#pieces.has(error.piece)) throw error;
        await this.#fetch(error.piece);
      }
    }
  }

  async #fetch(piece: number): Promise<void> {
    const start = piece * PIECE;
    const end = Math.min(start + PIECE, this.size);
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await this.#blob.slice(start, end).arrayBuffer());
    } catch (error) {
      throw new DumpError(this.name, start, `cannot be read: ${(error as Error).message}`);
    }
    if (bytes.length !== end - start) {
      throw new DumpError(this.name, start, `expected ${end - start} bytes, but only ${bytes.length} could be read`);
    }
    this.#pieces.set(piece, bytes);
  }
}

/** A dump opened from a Blob or from bytes. */
export interface AsyncDump {
  readonly dump: Dump;
  /**
   * Runs an operation that reads the dump's pages (a translation, a walk), fetching what it needs first.
   * Where the whole dump is in memory already, it runs once.
   */
  fetching<T>(operation: () => T): Promise<T>;
}

export interface OpenDumpAsyncOptions extends OpenDumpOptions {
  /** For messages; the file's own where it has one. */
  readonly name?: string;
  /** Most bytes of pages that are not all zero which a compressed dump may inflate to. Default 512 MiB. */
  readonly maxKept?: number;
}

/**
 * Opens a dump from bytes or a Blob. Gzip is inflated whole with the browser's DecompressionStream, keeping non-zero
 * pages in memory, up to `maxKept` bytes of them (a single gzip member: browsers refuse more); of an uncompressed Blob
 * only what is needed is ever read.
 * Throws a DumpError if the dump is not whole.
 */
export async function openDumpAsync(
  input: Blob | ArrayBuffer | Uint8Array,
  options: OpenDumpAsyncOptions = {},
): Promise<AsyncDump> {
  const name = options.name ?? (input as { name?: string }).name ?? "dump";
  const blob = input instanceof Blob ? input : undefined;
  const head = blob ? new Uint8Array(await blob.slice(0, 2).arrayBuffer()) : bytesOf(input as ArrayBuffer | Uint8Array);
  if (isGzip(head)) {
    const stream = (blob ?? new Blob([input as BlobPart])).stream();
    const size = blob?.size ?? head.length;
    const store = await inflate(stream as ReadableStream<Uint8Array<ArrayBuffer>>, name, size, options);
    return { dump: openDump(store, { ...options, compressed: true }), fetching: async (operation) => operation() };
  }
  if (blob === undefined) {
    const dump = openDump(new MemoryByteSource(head, name), options);
    return { dump, fetching: async (operation) => operation() };
  }
  const source = new BlobByteSource(blob, name);
  const dump = await source.fetching(() => openDump(source, options));
  return { dump, fetching: (operation) => source.fetching(operation) };
}

async function inflate(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  name: string,
  compressedSize: number,
  { rawOffset, maxInflated, maxKept }: OpenDumpAsyncOptions,
): Promise<SparseStore> {
  const { limit } = inflationLimits(compressedSize, maxInflated);
  const store = new SparseStore(name, { limit, keptLimit: maxKept ?? KEPT });
  const reader = stream.pipeThrough(new DecompressionStream("gzip")).getReader();
  let decided = rawOffset !== undefined;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      store.append(value);
      if (!decided && store.size >= FIRST_BYTES) {
        checkFirstBytes(store);
        decided = true;
      }
    }
  } catch (error) {
    if (error instanceof DumpError) {
      await reader.cancel().catch(() => {});
      throw error;
    }
    const upTo = `after 0x${store.size.toString(16)} inflated bytes`;
    throw new DumpError(name, undefined, `broken or incomplete gzip data ${upTo}: ${(error as Error).message}`);
  }
  store.finish();
  return store;
}

function bytesOf(input: ArrayBuffer | Uint8Array): Uint8Array {
  return input instanceof Uint8Array ? input : new Uint8Array(input);
}
