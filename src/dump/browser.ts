/** Memory dumps in a browser: bytes in memory, or a Blob (a chosen file) of any size that is read piece by piece. */
import type { WebBlob } from "../platform.js";
import { BlobByteSource, type BlobLike, fetching, isBlobLike } from "./bytes/blob-byte-source.js";
import { type ByteSource, MemoryByteSource } from "./bytes/byte-source.js";
import { CodecsNeededError } from "./bytes/errors.js";
import { SparseStore } from "./bytes/sparse-store.js";
import type { CodecName } from "./codec/codec.js";
import { loadCodecs } from "./codec/load.js";
import type { Dump } from "./dump.js";
import { isRaw } from "./formats/raw.js";
import { type OpenDumpOptions, type OpenSourceOptions, openDump } from "./open.js";
import { declaredSize } from "./packed/declared-size.js";
import { gunzipStream } from "./packed/gunzip-stream.js";
import { checkDeclaredSize, type Inflate, inflateInto } from "./packed/inflate.js";
import { inflationLimits, MAGIC_SIZE, type Packing, packingOf } from "./packed/packing.js";

export { BlobByteSource, type BlobLike, type BlobSlice, MissingPieceError } from "./bytes/blob-byte-source.js";
export * from "./index.js";

/** Pages of an inflated dump stay in memory here: so many bytes of them unless the caller allows more. */
const KEPT = 2 ** 29;

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
  /** Bytes of each Blob that are kept in memory, where it is read piece by piece. Default 128 MiB. */
  readonly maxCached?: number;
  /**
   * The other files of a split dump (`makedumpfile --split`), in any order, or of VMware's two (.vmem, and .vmss or .vmsn) the
   * other one.
   */
  readonly parts?: readonly (WebBlob | BlobLike | ArrayBuffer | Uint8Array)[];
}

/**
 * Opens a dump from bytes, a Blob, or what is read as one (BlobLike). A file that is compressed as a whole (gzip, xz, zstd) is inflated once, keeping
 * non-zero pages in memory, up to `maxKept` bytes of them (of gzip a single member: browsers refuse more); of another
 * Blob only what is needed is ever read, and what was read is kept up to `maxCached` bytes.
 * Throws a DumpError if the dump cannot be read; `warnings` says what is missing from it.
 */
export async function openDumpAsync(
  input: WebBlob | BlobLike | ArrayBuffer | Uint8Array,
  options: OpenDumpAsyncOptions = {},
): Promise<AsyncDump> {
  const name = options.name ?? nameOf(input) ?? "dump";
  const parts = (options.parts ?? []).map((part, index) =>
    sourceOf(part, nameOf(part) ?? `part ${index + 1}`, options.maxCached),
  );
  const blob = isBlobLike(input) ? input : new Blob([input as BlobPart]);
  const signal = options.signal as AbortSignal | undefined;
  signal?.throwIfAborted();
  const packing = packingOf(await bytesAt(blob, 0, MAGIC_SIZE));
  if (packing === undefined) {
    const dump = await openWithCodecs(sourceOf(input, name, options.maxCached), { ...options, parts });
    return { dump, fetching };
  }
  const { store, warnings } = await inflate(blob, packing, name, options);
  const dump = await openWithCodecs(store, { ...options, parts, compressed: true, warnings });
  return { dump, fetching };
}

/** Opens a dump, fetching what that needs, and loading the decompressors of its pages. */
async function openWithCodecs(source: ByteSource, options: OpenSourceOptions): Promise<Dump> {
  const progress = new Map<ByteSource, unknown>();
  const signal = options.signal as AbortSignal | undefined;
  // Interrupted for each piece that has to be fetched.
  const open = (more: OpenSourceOptions) => () => {
    signal?.throwIfAborted();
    return openDump(source, { ...options, progress, ...more });
  };
  try {
    return await fetching(open({}));
  } catch (error) {
    if (!(error instanceof CodecsNeededError)) throw error;
    const codecs = await loadCodecs(error.codecs as CodecName[]);
    return fetching(open({ codecs }));
  }
}

async function inflate(
  blob: BlobLike,
  packing: Packing,
  name: string,
  options: OpenDumpAsyncOptions,
): Promise<{ readonly store: SparseStore; readonly warnings: readonly string[] }> {
  const { maxInflated, maxKept } = options;
  const limits = inflationLimits(blob.size, maxInflated);
  const declared = await declaredSize(packing, blob.size, (offset, length) => bytesAt(blob, offset, length));
  checkDeclaredSize(name, packing, declared, limits);
  const store = new SparseStore(name, { limit: limits.limit, keptLimit: maxKept ?? KEPT });
  const warnings = await inflateInto({
    name,
    packing,
    input: piecesOf(blob),
    inflate: await inflaterOf(packing),
    store,
    declared,
    raw: isRaw(options),
    signal: options.signal as AbortSignal | undefined,
  });
  return { store, warnings };
}

async function inflaterOf(packing: Packing): Promise<Inflate> {
  if (packing === "xz") return (await import("./codec/xz.js")).unpackXzStream;
  if (packing === "zstd") return (await import("./codec/zstd.js")).unpackZstdStream;
  return gunzipStream;
}

async function* piecesOf(blob: BlobLike): AsyncIterable<Uint8Array> {
  const piece = 2 ** 18;
  for (let at = 0; at < blob.size; at += piece) yield await bytesAt(blob, at, piece);
}

async function bytesAt(blob: BlobLike, offset: number, length: number): Promise<Uint8Array> {
  const start = Math.min(Math.max(0, offset), blob.size);
  return new Uint8Array(await blob.slice(start, Math.min(start + length, blob.size)).arrayBuffer());
}

function sourceOf(
  input: WebBlob | BlobLike | ArrayBuffer | Uint8Array,
  name: string,
  maxCached: number | undefined,
): ByteSource {
  if (isBlobLike(input)) return new BlobByteSource(input, name, maxCached);
  return new MemoryByteSource(input instanceof Uint8Array ? input : new Uint8Array(input as ArrayBuffer), name);
}

/** A File has one. */
function nameOf(input: object): string | undefined {
  return (input as { name?: string }).name;
}
