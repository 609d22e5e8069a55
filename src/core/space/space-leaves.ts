/** Listing every leaf of a space, and the runs that they make, as objects. */
import type { Leaf, Rights } from "../../api.js";
import type { Run } from "../../runs.js";
import { LEAF_OFFSET, LeafRecord } from "../records/walk.js";
import { LEAF_BATCH, type LeafBlocks } from "./leaf-blocks.js";
import { leafSizes, sharedRights } from "./results.js";

/** Words of 32 bits of a LEAF record, and where in it they lie. */
const WORDS = LeafRecord.SIZE / 4;
const VA = LEAF_OFFSET.va / 4;
const PA = LEAF_OFFSET.pa / 4;
const ENTRY = LEAF_OFFSET.entry / 4;
const RIGHTS = LEAF_OFFSET.rights / 4;
const LEVEL = LEAF_OFFSET.level / 4;
/** A block's records outside of linear memory, which may grow between one leaf and the next. */
class BlockReader {
  /** The block's records behind the last one of the block before. */
  readonly words = new Uint32Array((1 + LEAF_BATCH) * WORDS);
  /** The same. */
  readonly wide = new BigUint64Array(this.words.buffer);
  /** The next record, and the end of the block, in words. */
  at = 0;
  end = 0;

  constructor(readonly blocks: LeafBlocks) {}

  /** Takes the next block; false at the end of the listing. */
  more(): boolean {
    const count = this.blocks.next();
    if (count === 0) return false;
    const { records, linear } = this.blocks;
    if (this.end !== 0) this.words.copyWithin(0, this.end - WORDS, this.end);
    const from = records / 8;
    this.wide.set(linear.u64.subarray(from, from + (count * WORDS) / 2), WORDS / 2);
    this.at = WORDS;
    this.end = WORDS + count * WORDS;
    return true;
  }
}

/** The leaves in ascending order. See LeafBlocks for what may happen to the space meanwhile. */
export class LeafListing implements IterableIterator<Leaf> {
  readonly #reader: BlockReader;
  readonly #rights: readonly Rights[];
  readonly #sizes: readonly bigint[];

  constructor(blocks: LeafBlocks) {
    this.#reader = new BlockReader(blocks);
    this.#rights = sharedRights(blocks.mode);
    this.#sizes = leafSizes(blocks.mode);
  }

  [Symbol.iterator](): this {
    return this;
  }

  // Small enough for V8 to put it where it is called: then its result is no object.
  next(): IteratorResult<Leaf> {
    const value = this.#take();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  #take(): Leaf | undefined {
    const reader = this.#reader;
    if (!reader.blocks.isLive() || (reader.at === reader.end && !reader.more())) return undefined;
    const { words, wide, at } = reader;
    reader.at = at + WORDS;
    const level = words[at + LEVEL]!;
    return {
      va: wide[(at + VA) / 2]!,
      pa: wide[(at + PA) / 2]!,
      size: this.#sizes[level]!,
      rights: this.#rights[words[at + RIGHTS]!]!,
      entry: wide[(at + ENTRY) / 2]!,
      level,
    };
  }

  /** Ends the listing. */
  return(): IteratorResult<Leaf> {
    this.#reader.blocks.end();
    return { done: true, value: undefined };
  }
}

/** What `mergeRuns` makes of the leaves, without an object for each. */
export class RunListing implements IterableIterator<Run> {
  readonly #reader: BlockReader;
  readonly #rights: readonly Rights[];
  readonly #sizes: readonly bigint[];
  /** The same as numbers. */
  readonly #bytes: readonly number[];
  /** A run that reached the end of its block; none where it has 0 leaves. */
  #va = 0n;
  #pa = 0n;
  #leaves = 0;
  #runLevel = 0;
  #runRights = 0;

  constructor(blocks: LeafBlocks) {
    this.#reader = new BlockReader(blocks);
    this.#rights = sharedRights(blocks.mode);
    this.#sizes = leafSizes(blocks.mode);
    this.#bytes = this.#sizes.map(Number);
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Run> {
    const value = this.#take();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  #take(): Run | undefined {
    const reader = this.#reader;
    if (!reader.blocks.isLive()) return undefined;
    return reader.at === reader.end ? this.#nextBlock() : this.#within();
  }

  /** The run that begins here; kept, where the next block may go on with it. */
  #within(): Run | undefined {
    const reader = this.#reader;
    const { words, wide, at: first } = reader;
    const level = words[first + LEVEL]!;
    const rights = words[first + RIGHTS]!;
    const va = wide[(first + VA) / 2]!;
    const pa = wide[(first + PA) / 2]!;
    const at = runEnd(words, first + WORDS, reader.end, this.#bytes[level]!);
    const leaves = (at - first) / WORDS;
    reader.at = at;
    if (at < reader.end) return this.#run(va, pa, leaves, level, rights);
    this.#va = va;
    this.#pa = pa;
    this.#leaves = leaves;
    this.#runLevel = level;
    this.#runRights = rights;
    return this.#nextBlock();
  }

  /** The run that is kept, when it is known to end; else the first one of the next block. */
  #nextBlock(): Run | undefined {
    const reader = this.#reader;
    while (reader.more()) {
      if (this.#leaves === 0) return this.#within();
      const { at } = reader;
      reader.at = runEnd(reader.words, at, reader.end, this.#bytes[this.#runLevel]!);
      this.#leaves += (reader.at - at) / WORDS;
      if (reader.at < reader.end) break;
    }
    const leaves = this.#leaves;
    this.#leaves = 0;
    return leaves === 0 ? undefined : this.#run(this.#va, this.#pa, leaves, this.#runLevel, this.#runRights);
  }

  #run(va: bigint, pa: bigint, leaves: number, level: number, rights: number): Run {
    const pageSize = this.#sizes[level]!;
    const size = leaves === 1 ? pageSize : BigInt(leaves) * pageSize;
    return { va, pa, size, pageSize, rights: this.#rights[rights]! };
  }

  /** Ends the listing. */
  return(): IteratorResult<Run> {
    this.#reader.blocks.end();
    return { done: true, value: undefined };
  }
}

/** The first record from `at` on that does not go on where the one before it, a leaf of so many bytes, ends. */
function runEnd(words: Uint32Array, at: number, end: number, bytes: number): number {
  let next = at;
  while (
    next < end &&
    follows(words, next + PA, bytes) &&
    follows(words, next + VA, bytes) &&
    words[next + LEVEL] === words[next + LEVEL - WORDS] &&
    words[next + RIGHTS] === words[next + RIGHTS - WORDS]
  ) {
    next += WORDS;
  }
  return next;
}

/** Whether the address at `at` is that of the record before, and so many bytes more. */
function follows(words: Uint32Array, at: number, bytes: number): boolean {
  const low = words[at]!;
  if (low !== (words[at - WORDS]! + bytes) >>> 0) return false;
  return words[at + 1]! === (words[at + 1 - WORDS]! + (low < bytes ? 1 : 0)) >>> 0;
}
