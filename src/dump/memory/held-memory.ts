/** What every memory of a dump says of itself: which of it is held, and which lacks why. */
import type { DumpMemory } from "./dump-memory.js";
import type { Extent, Lacking, MemoryRange, Presence } from "./presence.js";
import type { RangeList } from "./range-list.js";

export abstract class HeldMemory implements DumpMemory {
  #held!: RangeList;
  #lacking!: Readonly<Record<Lacking, RangeList>>;

  /** Once, by whoever constructs it, when it is known. */
  protected setRanges(held: RangeList, lacking: Readonly<Record<Lacking, RangeList>>): void {
    this.#held = held;
    this.#lacking = lacking;
  }

  get held(): Extent {
    return this.#held.extent;
  }

  get lacking(): Readonly<Record<Lacking, Extent>> {
    return { excluded: this.#lacking.excluded.extent, cut: this.#lacking.cut.extent };
  }

  ranges(): MemoryRange[] {
    return this.#held.ranges();
  }

  lackingRanges(why: Lacking): MemoryRange[] {
    return this.#lacking[why].ranges();
  }

  presence(gpa: bigint, size: bigint): Presence {
    const [from, to] = [Number(gpa), Number(gpa + size)];
    if (this.#held.touches(from, to)) return "held";
    if (this.#lacking.cut.touches(from, to)) return "cut";
    return this.#lacking.excluded.touches(from, to) ? "excluded" : "absent";
  }

  /** Whether a byte of [from, to) is held. */
  protected isHeld(from: number, to: number): boolean {
    return this.#held.touches(from, to);
  }

  /** Whether a byte of [from, to) was left out, or is cut off. */
  protected isLacking(from: number, to: number): boolean {
    return this.#lacking.excluded.touches(from, to) || this.#lacking.cut.touches(from, to);
  }

  abstract readPage(gfn: bigint, into: Uint8Array): boolean;
}
