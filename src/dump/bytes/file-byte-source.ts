/** The bytes of an open file, for Node. */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import type { ByteSource } from "./byte-source.js";
import { DumpError } from "./errors.js";
import { systemReason } from "./system-reason.js";

/** A byte source over an open file. */
export class FileByteSource implements ByteSource {
  readonly name: string;
  /** Length when the file was opened. */
  readonly size: number;
  readonly #descriptor: number;

  /** Opens the file for reading; throws a DumpError where that is not possible, and for all but regular files. */
  constructor(path: string) {
    this.name = path;
    try {
      // Opening something else may have an effect, or wait for ever, as that of a FIFO that nobody writes to does.
      refuseIrregular(path, statSync(path));
      this.#descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (error) {
      if (error instanceof DumpError) throw error;
      throw new DumpError(path, undefined, `cannot be opened: ${systemReason(error)}`);
    }
    try {
      // It may have been replaced in between.
      const stat = fstatSync(this.#descriptor);
      refuseIrregular(path, stat);
      this.size = stat.size;
    } catch (error) {
      closeSync(this.#descriptor);
      throw error;
    }
  }

  read(offset: number, into: Uint8Array): number {
    let done = 0;
    while (done < into.length) {
      let count: number;
      try {
        count = readSync(this.#descriptor, into, done, into.length - done, offset + done);
      } catch (error) {
        throw new DumpError(this.name, offset + done, `cannot be read: ${systemReason(error)}`);
      }
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  /** Closes the file; a second call does nothing. */
  close(): void {
    closeSync(this.#descriptor);
  }
}

function refuseIrregular(path: string, stat: Stats): void {
  if (stat.isFile()) return;
  throw new DumpError(path, undefined, `expected a regular file, found ${kindOf(stat)}`);
}

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return "a folder";
  if (stat.isFIFO()) return "a pipe";
  return stat.isSocket() ? "a socket" : "a device";
}
