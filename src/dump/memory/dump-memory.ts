/** Guest-physical memory as a dump has it, whatever its format. */
import type { PageSource } from "../../api.js";
import type { Extent, Lacking, MemoryRange, Presence } from "./presence.js";

/**
 * The pages that a dump holds. `readPage` is true only where every byte of the page that the machine had is known: a
 * page that is lacking in part is lacking.
 */
export interface DumpMemory extends PageSource {
  /** What is held. */
  readonly held: Extent;
  /** What is known to have been there and is not held. */
  readonly lacking: Readonly<Record<Lacking, Extent>>;
  /** What is held, ascending, touching ranges merged. */
  ranges(): MemoryRange[];
  /** What is lacking for this reason, ascending, touching ranges merged. */
  lackingRanges(why: Lacking): MemoryRange[];
  /** What is known of [gpa, gpa + size): `held` where one byte of it is, then `cut`, `excluded`, `absent`. */
  presence(gpa: bigint, size: bigint): Presence;
}
