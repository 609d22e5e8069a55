/** The bytes of a Blob, of any size, which can only be read asynchronously. */
import { PagingError } from "../../errors.js";
import type { WebBlob } from "../../platform.js";
import type { ByteSource } from "./byte-source.js";
import { DumpError } from "./errors.js";

/** Bytes of a Blob are fetched and kept in pieces of this size (bytes). */
const PIECE = 2 ** 16;
/** So many bytes are kept beyond those that an operation needs at once, unless the caller says otherwise. */
const KEPT = 2 ** 27;
/** Where pieces are missed one after the other, up to so many are fetched at once. */
const MOST_AT_ONCE = 32;

/** What is read as a Blob is: a file on a server, say, of which `slice` asks for a range. A Blob is one itself. */
export interface BlobLike {
  /** Bytes. */
  readonly size: number;
  /** The bytes from `start` up to `end`, both at most `size`. */
  slice(start: number, end: number): BlobSlice;
}

/** A part of what is read as a Blob is. */
export interface BlobSlice {
  /** Its bytes; rejects where they cannot be had. */
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** Whether it can be read as a Blob is; bytes have a `slice` too. */
export function isBlobLike(input: object): input is BlobLike {
  return typeof (input as BlobLike).size === "number" && typeof (input as BlobLike).slice === "function";
}

/** A piece of a Blob has not been fetched yet: thrown by a read, answered by `fetching`. */
export class MissingPieceError extends PagingError {
  override name = "MissingPieceError";
  readonly source: BlobByteSource;
  readonly piece: number;

  constructor(source: BlobByteSource, piece: number) {
    super(`bytes from 0x${(piece * PIECE).toString(16)} on have not been fetched; use fetching()`);
    this.source = source;
    this.piece = piece;
  }
}

/**
 * Runs `operation` again and again, fetching the piece of a Blob that it missed, until it misses none.
 * The operation must have no effect before its last read (translating, walking, opening a dump have none).
 */
export async function fetching<T>(operation: () => T): Promise<T> {
  for (;;) {
    try {
      return operation();
    } catch (error) {
      if (!(error instanceof MissingPieceError)) throw error;
      await error.source.fetch(error.piece);
    }
  }
}

/** A byte source over a Blob. Reads happen inside `fetching`. */
export class BlobByteSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #blob: BlobLike;
  /** Pieces that are kept. */
  readonly #kept: number;
  /** In the order of their last use. */
  readonly #pieces = new Map<number, Uint8Array>();
  /** Pieces that were used since the last one was missed: the operation needs them again. */
  #used = new Set<number>();
  /** The piece behind the last ones that were fetched, and how many those were. */
  #next = -1;
  #atOnce = 1;

  /** `kept`: bytes that are kept beyond those that an operation needs at once. Default 128 MiB. */
  constructor(blob: WebBlob | BlobLike, name: string, kept: number = KEPT) {
    this.#blob = blob as BlobLike;
    this.#kept = Math.ceil(kept / PIECE);
    this.name = name;
    this.size = this.#blob.size;
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    let done = 0;
    while (done < length) {
      const at = offset + done;
      const piece = this.#piece(Math.floor(at / PIECE));
      const part = piece.subarray(at % PIECE, (at % PIECE) + length - done);
      if (part.length === 0) break;
      into.set(part, done);
      done += part.length;
    }
    return done;
  }

  #piece(number: number): Uint8Array {
    const piece = this.#pieces.get(number);
    if (piece === undefined) throw new MissingPieceError(this, number);
    if (!this.#used.has(number)) {
      this.#used.add(number);
      this.#pieces.delete(number);
      this.#pieces.set(number, piece);
    }
    return piece;
  }

  /** Fetches a piece, and more behind it where pieces are missed in order. */
  async fetch(piece: number): Promise<void> {
    this.#atOnce = piece === this.#next ? Math.min(MOST_AT_ONCE, this.#atOnce * 2) : 1;
    let count = 1;
    while (count < this.#atOnce && !this.#pieces.has(piece + count)) count++;
    this.#next = piece + count;
    const start = piece * PIECE;
    const end = Math.min(start + count * PIECE, this.size);
    let bytes: Uint8Array;
    try {
      bytes = new Uint8Array(await this.#blob.slice(start, end).arrayBuffer());
    } catch (error) {
      throw new DumpError(this.name, start, `cannot be read: ${(error as Error).message}`);
    }
    if (bytes.length !== end - start) {
      throw new DumpError(this.name, start, `expected ${end - start} bytes, but only ${bytes.length} could be read`);
    }
    this.#forget();
    for (let at = 0; at < bytes.length; at += PIECE) {
      this.#pieces.set(piece + at / PIECE, count === 1 ? bytes : bytes.slice(at, at + PIECE));
    }
    this.#used = new Set();
  }

  /** Lets go of the pieces that were not used for the longest time, but not of those that are needed again at once. */
  #forget(): void {
    for (const number of this.#pieces.keys()) {
      if (this.#pieces.size <= this.#kept + this.#used.size) return;
      if (!this.#used.has(number)) this.#pieces.delete(number);
    }
  }
}
