/** The leaves of a space as the core lists them: in blocks of LEAF records. */
import { Status } from "../../abi/index.js";
import type { PagingMode } from "../../api.js";
import { ConfigError, MemoryRangeError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import type { CoreMemory } from "../memory/memory.js";
import { CursorRecord, LeafRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";

/** Leaves that one call into the core may list. */
export const LEAF_BATCH = 1024;
const OUTPUT_BYTES = LEAF_BATCH * LeafRecord.SIZE;

/** What is listed. */
export interface Listed {
  readonly pointer: number;
  readonly mode: PagingMode;
  readonly memory: CoreMemory;
}

/**
 * The blocks of a listing. Whoever takes one, and the memory's source, may dispose of the space (DisposedError), or change its
 * paging mode or memory (ConfigError): either ends the listing. What the source throws does not: `next` goes on where it
 * stood, so that a source may fetch the page meanwhile.
 */
export class LeafBlocks {
  readonly mode: PagingMode;
  readonly exports: CoreExports;
  readonly linear: LinearMemory;
  readonly #space: Listed;
  readonly #isSame: () => boolean;
  readonly #requireLive: () => void;
  /** In linear memory while the listing is under way, at 0 before and when it waits for the source. */
  readonly #cursor: CursorRecord;
  #output = 0;
  /** The cursor of a listing that waits. */
  #kept: Uint8Array | undefined;
  /** Why the core stopped. */
  #status: number = Status.Ok;
  #ended = false;

  /**
   * `isSame` says whether the space is there, with the mode and the memory that it has now; `requireLive` throws where it is
   * gone.
   */
  constructor(exports: CoreExports, space: Listed, isSame: () => boolean, requireLive: () => void) {
    this.exports = exports;
    this.#space = space;
    this.#isSame = isSame;
    this.#requireLive = requireLive;
    this.mode = space.mode;
    this.linear = space.memory.linear;
    this.#cursor = new CursorRecord(this.linear, 0);
  }

  /** Linear address of the block's records, until the next call of anything here. */
  get records(): number {
    return this.#output;
  }

  /** Lists at most `most` leaves, 1 to LEAF_BATCH, and returns how many there are; 0 at the end. */
  next(most = LEAF_BATCH): number {
    if (this.#ended) return 0;
    try {
      this.#requireSame();
      if (this.#output === 0) this.#begin();
      for (;;) {
        if (this.#status !== Status.Ok) this.#resolve();
        if (this.#cursor.level === 0) break;
        const count = this.exports.enumerate(this.#space.pointer, this.#cursor.at, this.#output, most);
        this.#status = this.#cursor.status;
        if (count !== 0) return count;
      }
      this.end();
      return 0;
    } catch (error) {
      if (this.#kept === undefined) this.end();
      throw error;
    }
  }

  /** The source has to be asked before there is another block: what it throws comes out of `next`. */
  get waits(): boolean {
    return this.#status !== Status.Ok;
  }

  /** Ends the listing. */
  end(): void {
    this.#ended = true;
    this.#release();
  }

  /** Whether the listing goes on; throws, and ends it, where the space is gone or another one. Asked for each leaf. */
  isLive(): boolean {
    if (this.#ended) return false;
    if (this.#isSame()) return true;
    this.end();
    this.#requireSame();
    return false;
  }

  /** The cursor's levels are those of the mode, its pointers those of the memory. */
  #requireSame(): void {
    if (this.#isSame()) return;
    this.#requireLive();
    const { mode } = this.#space;
    if (mode !== this.mode) {
      throw new ConfigError(`the mode became ${mode} while ${this.mode} tables were listed`);
    }
    throw new ConfigError("the space was given another memory while its tables were listed");
  }

  #begin(): void {
    const at = this.linear.allocate(CursorRecord.SIZE);
    try {
      this.#output = this.linear.allocate(OUTPUT_BYTES, LeafRecord.SIZE);
    } catch (error) {
      this.linear.free(at, CursorRecord.SIZE);
      throw error;
    }
    this.#cursor.at = at;
    if (this.#kept === undefined) this.exports.startEnumeration(this.#space.pointer, at);
    else this.linear.u8.set(this.#kept, at);
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
      this.#space.memory.supply(address >> 12n);
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
    this.#kept = this.linear.u8.slice(this.#cursor.at, this.#cursor.at + CursorRecord.SIZE);
    this.#release();
  }

  #release(): void {
    if (this.#output === 0) return;
    this.linear.free(this.#output, OUTPUT_BYTES);
    this.linear.free(this.#cursor.at, CursorRecord.SIZE);
    this.#output = 0;
    this.#cursor.at = 0;
  }
}
