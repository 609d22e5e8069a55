/** Random access to the bytes of a file, whatever holds them. */
import { DumpError } from "./errors.js";

/** Bytes that can be read anywhere, synchronously. */
export interface ByteSource {
  /** For error messages. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Reads up to `into.length` bytes at `offset` and returns how many there were; less than asked only at the end.
   * A file may have become shorter than `size` since it was opened: use `readFully` where the bytes must be there.
   */
  read(offset: number, into: Uint8Array): number;
  /** True if the bytes are there. Where it is left out, all bytes below `size` are. */
  holds?(offset: number, length: number): boolean;
}

/** A byte source over bytes in memory. */
export class MemoryByteSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array | ArrayBuffer, name = "dump") {
    this.#bytes = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    this.name = name;
    this.size = this.#bytes.length;
  }

  read(offset: number, into: Uint8Array): number {
    const part = this.#bytes.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }
}

/** True if the source has these bytes. */
export function holdsBytes(source: ByteSource, offset: number, length: number): boolean {
  return offset + length <= source.size && (source.holds === undefined || source.holds(offset, length));
}

/**
 * Reads exactly `length` bytes at `offset`.
 * Throws a DumpError that calls the wanted bytes `what` when the file ends before.
 */
export function readExactly(source: ByteSource, offset: number, length: number, what: string): DataView {
  if (!holdsBytes(source, offset, length)) {
    const end =
      offset + length > source.size
        ? `but the file ends at 0x${source.size.toString(16)}`
        : "but they are not in the file, which breaks off";
    throw new DumpError(source.name, offset, `expected ${what} (${length} bytes), ${end}`);
  }
  const bytes = new Uint8Array(length);
  readFully(source, offset, bytes, what);
  return new DataView(bytes.buffer);
}

/**
 * Fills `into` from `offset`. Throws a DumpError that calls the wanted bytes `what` where fewer could be read: what
 * a dump's headers promise was checked against its size, so the file has been cut short since.
 */
export function readFully(source: ByteSource, offset: number, into: Uint8Array, what: string): void {
  const got = source.read(offset, into);
  if (got === into.length) return;
  throw new DumpError(
    source.name,
    offset,
    `expected ${what} (${into.length} bytes), but only ${got} could be read: the file has become shorter`,
  );
}
