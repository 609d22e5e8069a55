/** Listing every leaf of a space. */
import { Status } from "../../abi/index.js";
import type { Leaf, PagingMode } from "../../api.js";
import { ConfigError, MemoryRangeError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import type { CoreMemory } from "../memory/memory.js";
import { CursorRecord, LeafRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { readLeaf } from "./results.js";

/** Leaves that one call into the core may list. */
const LEAF_BATCH = 1024;
const OUTPUT_BYTES = LEAF_BATCH * LeafRecord.SIZE;
const NO_MORE: IteratorResult<Leaf> = { done: true, value: undefined };

/** What is listed. */
interface Listed {
  readonly pointer: number;
  readonly mode: PagingMode;
  readonly memory: CoreMemory;
}

/**
 * The leaves of a space, in ascending order. Whoever takes a leaf, and the memory's source, may dispose of the space
 * (DisposedError), or change its paging mode or memory (ConfigError): either ends the listing. What the source throws does not:
 * `next` goes on where it stood, so that a source may fetch the page meanwhile.
 */
export class LeafListing implements IterableIterator<Leaf> {
  readonly #exports: CoreExports;
  readonly #space: Listed;
  readonly #requireLive: () => void;
  readonly #linear: LinearMemory;
  readonly #memory: CoreMemory;
  readonly #mode: PagingMode;
  /** In linear memory while the listing is under way, at 0 before and when it waits for the source. */
  readonly #cursor: CursorRecord;
  readonly #leaf: LeafRecord;
  #output = 0;
  /** The cursor of a listing that waits. */
  #kept: Uint8Array | undefined;
  /** The leaves in `#output`, and how many of them were taken. */
  #count = 0;
  #taken = 0;
  /** Why the core stopped. */
  #status: number = Status.Ok;
  #ended = false;

  /** `requireLive` throws where the space is gone. */
  constructor(exports: CoreExports, space: Listed, requireLive: () => void) {
    this.#exports = exports;
    this.#space = space;
    this.#requireLive = requireLive;
    this.#memory = space.memory;
    this.#mode = space.mode;
    this.#linear = space.memory.linear;
    this.#cursor = new CursorRecord(this.#linear, 0);
    this.#leaf = new LeafRecord(this.#linear, 0);
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Leaf> {
    if (this.#ended) return NO_MORE;
    try {
      this.#requireSame();
      if (this.#output === 0) this.#begin();
      while (this.#taken === this.#count) {
        if (this.#status !== Status.Ok) this.#resolve();
        if (this.#cursor.level === 0) return this.return();
        this.#count = this.#exports.enumerate(this.#space.pointer, this.#cursor.at, this.#output, LEAF_BATCH);
        this.#taken = 0;
        this.#status = this.#cursor.status;
      }
      this.#leaf.at = this.#output + this.#taken++ * LeafRecord.SIZE;
      return { done: false, value: readLeaf(this.#leaf, this.#mode) };
    } catch (error) {
      if (this.#kept === undefined) this.return();
      throw error;
    }
  }

  /** Ends the listing. */
  return(): IteratorResult<Leaf> {
    this.#ended = true;
    this.#release();
    return NO_MORE;
  }

  /** The cursor's levels are those of the mode, its pointers those of the memory. */
  #requireSame(): void {
    this.#requireLive();
    const { mode, memory } = this.#space;
    if (mode !== this.#mode) {
      throw new ConfigError(`the mode became ${mode} while ${this.#mode} tables were listed`);
    }
    if (memory !== this.#memory)
      throw new ConfigError("the space was given another memory while its tables were listed");
  }

  #begin(): void {
    const at = this.#linear.allocate(CursorRecord.SIZE);
    try {
      this.#output = this.#linear.allocate(OUTPUT_BYTES);
    } catch (error) {
      this.#linear.free(at, CursorRecord.SIZE);
      throw error;
    }
    this.#cursor.at = at;
    if (this.#kept === undefined) this.#exports.startEnumeration(this.#space.pointer, at);
    else this.#linear.u8.set(this.#kept, at);
    this.#kept = undefined;
  }

  /** Reads the page that is missing. Throws MemoryRangeError for a table outside the memory. */
  #resolve(): void {
    const { level } = this.#cursor;
    // The table that the enumeration stands at.
    const address = this.#cursor.table(level);
    if (this.#status !== Status.MissingPage) {
      throw new MemoryRangeError(`the level-${level} table at 0x${address.toString(16)} lies outside the memory`);
    }
    try {
      this.#memory.supply(address >> 12n);
    } catch (error) {
      this.#wait();
      throw error;
    }
    this.#requireSame();
    this.#status = Status.Ok;
  }

  /** Nobody need come back: what it holds of the linear memory is given back. */
  #wait(): void {
    if (this.#ended) return;
    this.#kept = this.#linear.u8.slice(this.#cursor.at, this.#cursor.at + CursorRecord.SIZE);
    this.#release();
  }

  #release(): void {
    if (this.#output === 0) return;
    this.#linear.free(this.#output, OUTPUT_BYTES);
    this.#linear.free(this.#cursor.at, CursorRecord.SIZE);
    this.#output = 0;
    this.#cursor.at = 0;
  }
}
