/** Where a trace comes from: anything with bytes, read in pieces. */
import { CodecError } from "../../dump/codec/codec.js";
import { gunzipStream } from "../../dump/packed/gunzip-stream.js";
import { packingOf } from "../../dump/packed/packing.js";
import { TraceError } from "../error.js";
import { Kept, salvaged } from "./salvage.js";

/** Bytes that can be read anywhere; a file, say. */
export interface RandomAccess {
  readonly size: number;
  /** The bytes from `offset` on, fewer than `length` only at the end. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** A trace: its text or its bytes, a Blob, a stream of pieces, or a file. */
export type TraceInput = string | Uint8Array | ArrayBuffer | Blob | AsyncIterable<Uint8Array | string> | RandomAccess;

/** Pieces in which what can be read anywhere is read. */
const PIECE = 2 ** 20;
/** The first bytes of a trace.dat file: 0x17 0x08 0x44, and "tracing" (trace-cmd.dat(5)). */
const DAT_MAGIC = Uint8Array.of(0x17, 0x08, 0x44, ...new TextEncoder().encode("tracing"));
/** Traces shrink to a twentieth: more than these many bytes, and this multiple of the compressed ones, keep a reader busy. */
const LEAST_INFLATED = 2 ** 27;
const INFLATED_RATIO = 256;
/** Of compressed data so many bytes are kept while they are read: what is good of damaged ones is inflated again. */
const MOST_KEPT_PACKED = 2 ** 26;
/** A trace.dat file that can only be read from front to back is kept whole, up to so many bytes. */
const MOST_KEPT = 2 ** 28;

/** A trace that was opened: a text that comes in pieces, or a trace.dat file. */
export type OpenedTrace =
  | { readonly kind: "text"; readonly chunks: AsyncIterable<Uint8Array>; readonly packed: boolean }
  | { readonly kind: "dat"; readonly file: RandomAccess; readonly packed: boolean };

/** How reading goes: told the compressed bytes that were taken, and of data that broke off. */
export interface Reading {
  taken(bytes: number): void;
  brokeOff(): void;
}

/** Looks at the first bytes, and inflates what is compressed. Throws a TraceError for what cannot be read. */
export async function openTrace(input: TraceInput, name: string, reading: Reading): Promise<OpenedTrace> {
  const random = randomAccessOf(input);
  const source = await peeked(
    counted(random === undefined ? pieces(input) : piecesOf(random), reading),
    DAT_MAGIC.length,
  );
  if (packingOf(source.head) === "gzip") {
    const unpacked = await peeked(inflated(source.all, name, reading), DAT_MAGIC.length);
    if (!isDat(unpacked.head)) return { kind: "text", chunks: unpacked.all, packed: true };
    return { kind: "dat", file: await kept(unpacked.all, name), packed: true };
  }
  if ((source.head[0] === 0xff && source.head[1] === 0xfe) || (source.head[0] === 0xfe && source.head[1] === 0xff))
    throw new TraceError(
      name,
      "expected text of ASCII or UTF-8, found UTF-16: convert it first (iconv -f utf-16 -t utf-8)",
    );
  const other = packingOf(source.head);
  if (other !== undefined)
    throw new TraceError(
      name,
      `expected text, a trace.dat file or gzip, found ${other}: unpack it first (${other} -d)`,
    );
  if (!isDat(source.head)) return { kind: "text", chunks: source.all, packed: false };
  if (random === undefined) return { kind: "dat", file: await kept(source.all, name), packed: false };
  await source.close();
  return { kind: "dat", file: random, packed: false };
}

function isDat(head: Uint8Array): boolean {
  return DAT_MAGIC.every((byte, at) => head[at] === byte);
}

/** Bytes in memory as what can be read anywhere. */
export function bytesAccess(bytes: Uint8Array): RandomAccess {
  return { size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}

function randomAccessOf(input: TraceInput): RandomAccess | undefined {
  if (typeof input === "string") return bytesAccess(new TextEncoder().encode(input));
  if (input instanceof Uint8Array) return bytesAccess(input);
  if (input instanceof ArrayBuffer) return bytesAccess(new Uint8Array(input));
  if (typeof Blob !== "undefined" && input instanceof Blob) {
    return {
      size: input.size,
      read: async (offset, length) => new Uint8Array(await input.slice(offset, offset + length).arrayBuffer()),
    };
  }
  return "read" in input ? input : undefined;
}

async function* piecesOf(file: RandomAccess): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.size; at += PIECE) {
    const piece = await file.read(at, Math.min(PIECE, file.size - at));
    if (piece.length === 0) return;
    yield piece;
  }
}

async function* pieces(input: TraceInput): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const piece of input as AsyncIterable<Uint8Array | string>) {
    yield typeof piece === "string" ? encoder.encode(piece) : piece;
  }
}

async function* counted(chunks: AsyncIterable<Uint8Array>, reading: Reading): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    reading.taken(chunk.length);
    yield chunk;
  }
}

/** The first bytes of a stream, and the whole stream. */
async function peeked(chunks: AsyncIterable<Uint8Array>, length: number) {
  const source = chunks[Symbol.asyncIterator]();
  const taken: Uint8Array[] = [];
  let size = 0;
  while (size < length) {
    const { done, value } = await source.next();
    if (done) break;
    taken.push(value);
    size += value.length;
  }
  const head = new Uint8Array(length);
  let at = 0;
  for (const piece of taken) {
    head.set(piece.subarray(0, length - at), at);
    at = Math.min(length, at + piece.length);
  }
  const all = (async function* () {
    try {
      yield* taken;
      for (let next = await source.next(); !next.done; next = await source.next()) yield next.value;
    } finally {
      await source.return?.();
    }
  })();
  return { head: head.subarray(0, Math.min(size, length)), all, close: async () => void (await source.return?.()) };
}

async function* inflated(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  reading: Reading,
): AsyncGenerator<Uint8Array> {
  let packed = 0;
  let size = 0;
  let broken = false;
  const compressed = new Kept(MOST_KEPT_PACKED);
  const counting = (async function* () {
    for await (const chunk of chunks) {
      packed += chunk.length;
      compressed.add(chunk);
      yield chunk;
    }
  })();
  try {
    for await (const piece of gunzipStream(counting, (truncated) => {
      broken = truncated;
    })) {
      size += piece.length;
      if (size > Math.max(LEAST_INFLATED, INFLATED_RATIO * packed)) {
        throw new TraceError(
          name,
          `expected at most ${INFLATED_RATIO} times the compressed bytes, found more: unpack it first (gzip -d)`,
        );
      }
      yield piece;
    }
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    broken = true;
  }
  if (!broken) return;
  // What is good is read all the same.
  reading.brokeOff();
  const bytes = compressed.bytes;
  if (bytes !== undefined) yield* salvaged(bytes, size);
}

async function kept(chunks: AsyncIterable<Uint8Array>, name: string): Promise<RandomAccess> {
  const all: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MOST_KEPT) {
      throw new TraceError(
        name,
        `expected at most ${MOST_KEPT} bytes of a trace.dat file that is compressed or comes as a stream: unpack it into a file first`,
      );
    }
    all.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of all) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytesAccess(bytes);
}
