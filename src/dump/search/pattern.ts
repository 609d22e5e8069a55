/** What is looked for in bytes, whatever way it was written down. */
import { PagingError } from "../../errors.js";

/** A pattern cannot be read, or is none that can be searched for. */
export class PatternError extends PagingError {
  override name = "PatternError";
}

/** Most bytes of a match. */
export const LONGEST_MATCH = 4096;
/** Bytes in front of a match that a pattern may look at. */
export const LOOK_BEHIND = 64;

/** Bytes in a buffer: `length` of them from `index` on. */
export interface Match {
  readonly index: number;
  readonly length: number;
}

/** Bytes that can be searched for. */
export interface BytePattern {
  /** No match has more bytes, 1 to 4096. Of an expression that allows more, see `MemoryHit.cut`. */
  readonly longest: number;
  /**
   * Calls `visit` with each match that begins in [from, to) of `bytes` and ends before its end, in order and without overlaps; a match
   * may look at what is around it.
   */
  matches(bytes: Uint8Array, from: number, to: number, visit: (match: Match) => void): void;
}
