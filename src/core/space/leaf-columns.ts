/** Listing every leaf of a space as columns of numbers: no object and no bigint for a leaf. */
import { CODES } from "../../abi/index.js";
import type { Releasable } from "../../api.js";
import { checkInteger, isInstance } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { LEAF_BATCH, type LeafBlocks } from "./leaf-blocks.js";
import { levelBits } from "./results.js";

/** Bytes of a leaf in all columns. */
const LEAF_BYTES = 32;
/** What the core uses behind the columns. */
const SCRATCH = 16;
/** 2 GiB. */
const MOST = 2 ** 31 / LEAF_BYTES;

/** What `LeafColumns.flags` says. */
export const LeafFlag = {
  /** Rights are ANDed over all levels. In EPT this is the right of supervisor-mode addresses where these differ. */
  execute: CODES.RIGHT_EXECUTE,
  write: CODES.RIGHT_WRITE,
  /** In EPT the right to read. */
  user: CODES.RIGHT_USER,
  /** In EPT the right to execute of user-mode addresses; in other tables it is not set. */
  userExecute: CODES.RIGHT_USER_EXECUTE,
  /** `flags >>> levelShift` is the level of the leaf. */
  levelShift: 8,
} as const;

/** Columns of a type, in the order in which they lie. */
interface Views {
  readonly buffer: ArrayBufferLike;
  readonly vaPage: Float64Array;
  readonly paPage: Float64Array;
  readonly pages: Uint32Array;
  readonly flags: Uint32Array;
  readonly entry: BigUint64Array;
}

/**
 * Room for leaves as columns, in the core's own memory, for `LeafColumnListing.fill`: what is in place `i` of each column is the
 * `i`th leaf's. The arrays are views: take them from here again after each `fill`, and after anything else that may have grown
 * the memory (creating memories, spaces or buffers, translating in a memory with a page source), which empties the old ones.
 */
export class LeafColumns implements Releasable {
  readonly #address: number;
  /** Places of a column. */
  readonly #stride: number;
  #views: Views | undefined;
  #disposed = false;

  /** Throws RangeError for a bad length, OutOfMemoryError where there is no room. */
  constructor(
    /** @internal */
    readonly linear: LinearMemory,
    /** Leaves that there is room for. */
    readonly length: number,
  ) {
    checkInteger(length, 1, MOST, "the length of columns", RangeError);
    // The core writes four at once.
    this.#stride = Math.ceil(length / 4) * 4;
    this.#address = linear.allocate(this.#bytes);
  }

  get #bytes(): number {
    return this.#stride * LEAF_BYTES + SCRATCH;
  }

  /** First linear address, sign-extended, in pages of 4 KiB: less than 2^52. Guest-physical for EPT and NPT. */
  get vaPage(): Float64Array {
    return this.#current().vaPage;
  }

  /** First physical address in pages of 4 KiB: less than 2^40. */
  get paPage(): Float64Array {
    return this.#current().paPage;
  }

  /** Size in pages of 4 KiB: 1, 512, 1024 or 262144. */
  get pages(): Uint32Array {
    return this.#current().pages;
  }

  /** Effective rights and the level (`LeafFlag`). */
  get flags(): Uint32Array {
    return this.#current().flags;
  }

  /** The entry that maps the page. */
  get entry(): BigUint64Array {
    return this.#current().entry;
  }

  /** @internal Linear address of the columns, and places of each. Throws ConfigError after `dispose`. */
  get place(): { readonly address: number; readonly stride: number } {
    if (this.#disposed) throw new ConfigError("the columns were disposed of");
    return { address: this.#address, stride: this.#stride };
  }

  /** Gives the memory back. Idempotent; the columns and their arrays may not be used afterwards. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.linear.free(this.#address, this.#bytes);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #current(): Views {
    const { buffer } = this.linear.memory;
    if (this.#views?.buffer === buffer && !this.#disposed) return this.#views;
    const { address, stride } = this.place;
    const { length } = this;
    const column = stride * 8;
    this.#views = {
      buffer,
      vaPage: new Float64Array(buffer, address, length),
      paPage: new Float64Array(buffer, address + column, length),
      pages: new Uint32Array(buffer, address + column * 2, length),
      flags: new Uint32Array(buffer, address + column * 2.5, length),
      entry: new BigUint64Array(buffer, address + column * 3, length),
    };
    return this.#views;
  }
}

/** A listing of leaves, in ascending order, that fills columns of the caller's. */
export class LeafColumnListing {
  readonly #blocks: LeafBlocks;
  readonly #step: number;

  /** @internal */
  constructor(blocks: LeafBlocks) {
    this.#blocks = blocks;
    this.#step = levelBits(blocks.mode);
  }

  /**
   * Puts the next leaves into `columns` and returns how many: 0 at the end, fewer than there is room for also where a page has to
   * be asked of the memory's source next. What the source throws comes out of a call that has put nothing there, and the next call
   * goes on: `await fetching(() => { count = listing.fill(columns); })`, with `fetching` as `openDumpAsync` of x86-paging/dump has
   * it. Throws what `next` of `leaves()` throws where the space was disposed of, or changed its mode or memory; ConfigError for
   * columns of another core or that were disposed of.
   */
  fill(columns: LeafColumns): number {
    const blocks = this.#blocks;
    // Before anything is listed: what is listed and has no place would be lost.
    if (!isInstance(columns, LeafColumns) || columns.linear !== blocks.linear)
      throw new ConfigError("the columns were not allocated by this core");
    const { length } = columns;
    columns.place;
    let filled = 0;
    while (filled < length && !(filled > 0 && blocks.waits)) {
      const count = blocks.next(Math.min(length - filled, LEAF_BATCH));
      if (count === 0) break;
      // Asked again: the source may have disposed of them.
      const { address, stride } = columns.place;
      blocks.exports.leafColumns(blocks.records, count, address, filled, stride, this.#step);
      filled += count;
    }
    return filled;
  }

  /** Ends the listing and gives back what it holds; idempotent. One that came to its end need not be ended. */
  end(): void {
    this.#blocks.end();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.end();
  }
}
