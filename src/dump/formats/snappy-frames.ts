/**
 * Snappy's framing format (google/snappy, framing_format.txt) as a byte source: chunks of at most 64 KiB, each compressed
 * for itself, with a checksum.
 */
import { type ByteSource, holdsBytes, readExactly, readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { CodecError, type Unpack } from "../codec/codec.js";
import { NumberList } from "../memory/extent-list.js";

const CHUNK_HEADER = 4;
const CHECKSUM = 4;
const COMPRESSED = 0x00;
const UNCOMPRESSED = 0x01;
const FIRST_SKIPPABLE = 128;
const STREAM_IDENTIFIER = 0xff;
/** "sNaPpY" */
const IDENTIFIER = "sNaPpY";
/** Most bytes of a chunk. */
const LARGEST = 2 ** 16;
/** Bytes that 64 KiB of anything can become (snappy's MaxCompressedLength), with their checksum. */
const LARGEST_PACKED = 32 + LARGEST + Math.floor(LARGEST / 6) + CHECKSUM;
/** Bytes of a varint that tell a length of at most LARGEST. */
const LENGTH_BYTES = 3;
/** A file of more chunks (512 GiB of memory, as they are written) is refused. */
const MOST_CHUNKS = 2 ** 23;
/** Unpacked chunks that are kept. */
const KEPT = 64;

/** A chunk, as it was found. */
interface Chunk {
  /** Where the chunk behind it begins. */
  readonly next: number;
  /** Bytes that it unpacks to; 0 for chunks without data. */
  readonly size: number;
}

/**
 * The unpacked chunks one after the other: `size` grows as chunks are found. Each is unpacked when bytes of it are
 * asked for; the last ones are kept.
 */
export class SnappyFrames implements ByteSource {
  readonly name: string;
  readonly #source: ByteSource;
  readonly #unpack: Unpack;
  /** Where each chunk's data begins in the unpacked bytes and in the file, and its bytes in the file. */
  readonly #starts = new NumberList();
  readonly #offsets = new NumberList();
  readonly #lengths = new NumberList();
  readonly #kept = new Map<number, Uint8Array>();
  #size = 0;

  constructor(source: ByteSource, unpack: Unpack) {
    this.#source = source;
    this.#unpack = unpack;
    this.name = source.name;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds the chunk at `at`; undefined where the file ends inside it. Throws a DumpError for what is no chunk. */
  find(at: number): Chunk | undefined {
    const source = this.#source;
    if (!holdsBytes(source, at, CHUNK_HEADER)) return undefined;
    const header = readExactly(source, at, CHUNK_HEADER, "a snappy chunk");
    const kind = header.getUint8(0);
    const length = header.getUint8(1) + header.getUint16(2, true) * 256;
    const data = at + CHUNK_HEADER;
    const next = data + length;
    if (!holdsBytes(source, data, length)) return undefined;
    if (kind === STREAM_IDENTIFIER) {
      const view = readExactly(source, data, Math.min(length, IDENTIFIER.length), "a snappy stream identifier");
      const text = String.fromCharCode(...new Uint8Array(view.buffer));
      if (text !== IDENTIFIER || length !== IDENTIFIER.length) {
        throw new DumpError(source.name, at, "expected a snappy stream identifier, found other bytes");
      }
      return { next, size: 0 };
    }
    if (kind >= FIRST_SKIPPABLE) return { next, size: 0 };
    if (kind !== COMPRESSED && kind !== UNCOMPRESSED) {
      throw new DumpError(source.name, at, `expected a snappy chunk, found type 0x${kind.toString(16)}`);
    }
    if (length <= CHECKSUM || length > LARGEST_PACKED) {
      throw new DumpError(
        source.name,
        at,
        `expected a snappy chunk of at most ${LARGEST_PACKED} bytes, found ${length}`,
      );
    }
    const size = kind === UNCOMPRESSED ? length - CHECKSUM : this.#unpackedSize(data + CHECKSUM, length - CHECKSUM);
    if (size < 1 || size > LARGEST) {
      throw new DumpError(source.name, at, `expected a snappy chunk of 1 to ${LARGEST} bytes unpacked, found ${size}`);
    }
    if (this.#starts.length === MOST_CHUNKS) {
      throw new DumpError(source.name, at, `expected at most ${MOST_CHUNKS} snappy chunks, found more`);
    }
    this.#starts.push(this.#size);
    this.#offsets.push(kind === UNCOMPRESSED ? -data : data);
    this.#lengths.push(length);
    this.#size += size;
    return { next, size };
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    for (let done = 0; done < length; ) {
      const index = this.#indexOf(offset + done);
      const chunk = this.#chunk(index);
      const from = offset + done - this.#starts.get(index);
      const part = chunk.subarray(from, from + length - done);
      into.set(part, done);
      done += part.length;
    }
    return length;
  }

  #unpackedSize(at: number, length: number): number {
    const view = readExactly(this.#source, at, Math.min(LENGTH_BYTES, length), "the length of a snappy chunk");
    let size = 0;
    for (let i = 0; i < view.byteLength; i++) {
      const byte = view.getUint8(i);
      size += (byte % 128) * 128 ** i;
      if (byte < 128) return size;
    }
    return Number.POSITIVE_INFINITY;
  }

  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.#starts.get(middle) <= offset) low = middle;
      else high = middle;
    }
    return low;
  }

  #chunk(index: number): Uint8Array {
    let chunk = this.#kept.get(index);
    this.#kept.delete(index);
    chunk ??= this.#unpackChunk(index);
    this.#kept.set(index, chunk);
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    return chunk;
  }

  #unpackChunk(index: number): Uint8Array {
    const start = this.#starts.get(index);
    const end = index + 1 < this.#starts.length ? this.#starts.get(index + 1) : this.#size;
    const place = this.#offsets.get(index);
    const data = Math.abs(place);
    const packed = new Uint8Array(this.#lengths.get(index));
    readFully(this.#source, data, packed, "a snappy chunk");
    const expected = new DataView(packed.buffer).getUint32(0, true);
    let chunk = packed.subarray(CHECKSUM);
    if (place > 0) {
      chunk = new Uint8Array(end - start);
      try {
        this.#unpack(packed.subarray(CHECKSUM), chunk);
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        throw new DumpError(this.name, data, `expected a snappy chunk, found ${error.message}`);
      }
    }
    if (maskedCrc(chunk) !== expected)
      throw new DumpError(this.name, data, "expected another checksum of a snappy chunk");
    return chunk;
  }
}

/** CRC-32C (Castagnoli), reflected polynomial. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc % 2 === 1 ? ((crc >>> 1) ^ POLYNOMIAL) >>> 0 : crc >>> 1;
  return crc;
});
/** What the framing format adds to a rotated checksum, so that data with checksums in it has none of its own. */
const MASK_DELTA = 0xa282ead8;

function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
