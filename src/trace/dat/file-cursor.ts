/** Reads a trace.dat file from front to back: numbers, strings and blocks, with what is missing said by type. */
import { TraceError } from "../error.js";
import type { RandomAccess } from "../input/input.js";

/** So much is read ahead. */
const AHEAD = 2 ** 16;
/** No part of a file's head is longer: formats of all events are 10 MiB, kernel symbols 20 MiB. */
const LONGEST_PART = 2 ** 28;
const LONGEST_STRING = 2 ** 12;

export class FileCursor {
  readonly #file: RandomAccess;
  readonly #name: string;
  /** Offset in the file of the next byte. */
  at: number;
  #buffer: Uint8Array = new Uint8Array(0);
  #start = 0;

  constructor(file: RandomAccess, name: string, at = 0) {
    this.#file = file;
    this.#name = name;
    this.at = at;
  }

  /** The next bytes, exactly so many. Throws a TraceError where the file ends before. */
  async bytes(length: number, what: string): Promise<Uint8Array> {
    if (length > LONGEST_PART) throw this.error(`expected at most ${LONGEST_PART} bytes of ${what}, found ${length}`);
    const offset = this.at - this.#start;
    if (offset < 0 || offset + length > this.#buffer.length) {
      const available = Math.max(0, this.#file.size - this.at);
      if (length > available) throw this.error(`expected ${length} bytes of ${what}, but the file ends`);
      this.#buffer = await this.#file.read(this.at, Math.max(length, AHEAD));
      this.#start = this.at;
    }
    const from = this.at - this.#start;
    if (from + length > this.#buffer.length) throw this.error(`expected ${length} bytes of ${what}, but the file ends`);
    this.at += length;
    return this.#buffer.subarray(from, from + length);
  }

  /** Passes over bytes. */
  skip(length: number): void {
    this.at += length;
  }

  async view(length: number, what: string): Promise<DataView> {
    const bytes = await this.bytes(length, what);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  async u16(what: string): Promise<number> {
    return (await this.view(2, what)).getUint16(0, true);
  }

  async u32(what: string): Promise<number> {
    return (await this.view(4, what)).getUint32(0, true);
  }

  /** A number of 64 bits, which must be below 2^53: sizes and offsets are. */
  async u64(what: string): Promise<number> {
    const value = Number((await this.view(8, what)).getBigUint64(0, true));
    if (value > Number.MAX_SAFE_INTEGER) throw this.error(`expected ${what}, found 0x${value.toString(16)}`);
    return value;
  }

  /** A text that ends with a zero byte. */
  async string(what: string): Promise<string> {
    let text = "";
    for (;;) {
      const [byte] = await this.bytes(1, what);
      if (byte === 0) return text;
      if (text.length >= LONGEST_STRING) throw this.error(`expected ${what} of at most ${LONGEST_STRING} bytes`);
      text += String.fromCharCode(byte!);
    }
  }

  error(problem: string): TraceError {
    return new TraceError(this.#name, `offset 0x${this.at.toString(16)}: ${problem}`);
  }
}

/** The same over bytes in memory: a section that was compressed, an option. */
export function memoryCursor(bytes: Uint8Array, name: string): FileCursor {
  return new FileCursor(
    { size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) },
    name,
  );
}
