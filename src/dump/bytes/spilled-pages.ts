/** Pages in memory up to a limit, and in a temporary file beyond it, for Node. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DumpError } from "./errors.js";
import { MemoryPages, type PageStorage } from "./sparse-store.js";
import { systemReason } from "./system-reason.js";

const PAGE = 4096;
/** Pages are written in blocks of so many. */
const BLOCK = 256;
/** Bytes of pages that are kept in memory. */
const IN_MEMORY = 2 ** 28;

/**
 * Keeps the pages of one inflated dump. The temporary file has no name once it is open (where the system allows that),
 * is readable by its owner alone, and is gone with `close` or with the process.
 */
export class SpilledPages implements PageStorage {
  readonly #name: string;
  readonly #capacity: number;
  readonly #first = new MemoryPages();
  #count = 0;
  #descriptor: number | undefined;
  #folder: string | undefined;
  /** The last pages, until the block is full. */
  readonly #block = new Uint8Array(BLOCK * PAGE);

  /** `name` is that of the dump, for error messages. */
  constructor(name: string, inMemory = IN_MEMORY) {
    this.#name = name;
    this.#capacity = Math.floor(inMemory / PAGE);
  }

  add(page: Uint8Array): void {
    const number = this.#count++;
    if (number < this.#capacity) {
      this.#first.add(page);
      return;
    }
    const spilled = number - this.#capacity;
    this.#block.set(page, (spilled % BLOCK) * PAGE);
    if (spilled % BLOCK === BLOCK - 1) this.#write((spilled - BLOCK + 1) * PAGE);
  }

  read(number: number, offset: number, into: Uint8Array): void {
    if (number < this.#capacity) {
      this.#first.read(number, offset, into);
      return;
    }
    const spilled = number - this.#capacity;
    const written = Math.floor((this.#count - this.#capacity) / BLOCK) * BLOCK;
    if (spilled < written) {
      this.#read(spilled * PAGE + offset, into);
      return;
    }
    const start = (spilled - written) * PAGE + offset;
    into.set(this.#block.subarray(start, start + into.length));
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
    this.#remove();
  }

  #write(at: number): void {
    try {
      const descriptor = this.#open();
      for (let done = 0; done < this.#block.length; ) {
        done += writeSync(descriptor, this.#block, done, this.#block.length - done, at + done);
      }
    } catch (error) {
      throw this.#error("kept", error);
    }
  }

  #read(at: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      let count: number;
      try {
        count = readSync(this.#descriptor!, into, done, into.length - done, at + done);
      } catch (error) {
        throw this.#error("read", error);
      }
      if (count === 0) throw this.#error("read", new Error("the temporary file has become shorter"));
      done += count;
    }
  }

  #open(): number {
    if (this.#descriptor === undefined) {
      this.#folder = mkdtempSync(join(tmpdir(), "x86-paging-"));
      this.#descriptor = openSync(join(this.#folder, "pages"), "wx+", 0o600);
      // A file that is open cannot be removed everywhere: `close` tries again.
      this.#remove();
    }
    return this.#descriptor;
  }

  #remove(): void {
    if (this.#folder === undefined) return;
    try {
      rmSync(this.#folder, { recursive: true, force: true });
      this.#folder = undefined;
    } catch {}
  }

  #error(what: string, error: unknown): DumpError {
    const reason = systemReason(error);
    return new DumpError(this.#name, undefined, `inflated pages cannot be ${what} in ${tmpdir()}: ${reason}`);
  }
}
