/**
 * Pages compressed with zlib (RFC 1950), by fflate: platforms inflate asynchronously, and pages are read synchronously. And gzip
 * data that are damaged, of which platforms' streams throw away what they have not handed out.
 */
import { Gunzip, unzlibSync } from "fflate";
import { CodecError, type Unpack } from "./codec.js";

/** Bytes of room behind the page: output that goes beyond it is seen. fflate stops writing at the end of its buffer. */
const ROOM = 1;
/** Bytes of header and checksum around the deflate data. */
const HEADER = 2;
const CHECKSUM = 4;

let buffer = new Uint8Array(0);

export const unpackZlib: Unpack = (packed, into) => {
  if (packed.length < HEADER + CHECKSUM) throw new CodecError(`zlib data of ${packed.length} bytes`);
  if (buffer.length !== into.length + ROOM) buffer = new Uint8Array(into.length + ROOM);
  let unpacked: Uint8Array;
  try {
    unpacked = unzlibSync(packed, { out: buffer });
  } catch (error) {
    throw new CodecError(`broken zlib data: ${(error as Error).message}`);
  }
  if (unpacked.length !== into.length) throw new CodecError("zlib data that inflates to another length");
  const view = new DataView(packed.buffer, packed.byteOffset + packed.length - CHECKSUM, CHECKSUM);
  if (view.getUint32(0) !== adler32(unpacked)) throw new CodecError("zlib data with a wrong checksum");
  into.set(unpacked);
};

/** RFC 1950, "Compliance": Adler-32, which fflate does not check. */
function adler32(bytes: Uint8Array): number {
  const modulus = 65521;
  /** So many bytes do not make the sums exceed 32 bits. */
  const most = 3800;
  let a = 1;
  let b = 0;
  for (let at = 0; at < bytes.length; ) {
    for (const end = Math.min(at + most, bytes.length); at < end; at++) {
      a += bytes[at]!;
      b += a;
    }
    a %= modulus;
    b %= modulus;
  }
  return b * 2 ** 16 + a;
}

/** One run over gzip data, from the front, piece by piece. */
export class GzipInflation {
  readonly #inflater = new Gunzip();
  #out: Uint8Array[] = [];

  constructor() {
    this.#inflater.ondata = (piece) => this.#out.push(piece);
  }

  /** Takes compressed bytes, and returns what became of them; undefined where they are damaged, and from there on. */
  push(bytes: Uint8Array): Uint8Array[] | undefined {
    this.#out = [];
    try {
      this.#inflater.push(bytes);
    } catch {
      return undefined;
    }
    return this.#out;
  }
}
