/** What a walk gathers while it goes: the entries it read and the bits it will set if it succeeds. */
import type { WalkStep } from "../api.js";
import type { PhysicalMemory } from "./memory.js";

/** Accessed and dirty bits to set in one entry. */
export interface EntryUpdate {
  readonly memory: PhysicalMemory;
  /** Where the entry really lies: after the second stage. */
  readonly address: bigint;
  readonly bytes: 4 | 8;
  /** What the walk read. */
  readonly entry: bigint;
  readonly mask: bigint;
}

export class Trace {
  readonly steps: WalkStep[] = [];
  readonly updates: EntryUpdate[] = [];

  /** `live`: the walk is an access, which sets bits; else it is a probe or only shown. */
  constructor(readonly live: boolean) {}

  /**
   * Does one translation of several that an access takes: a guest-physical address through the second stage. The bits of
   * the entries that it used are set when it succeeds, whatever happens to the access afterwards, and it is done again
   * where those entries are not what it read.
   */
  whole<T>(translate: (own: Trace) => T, succeeded: (outcome: T) => boolean): T {
    while (true) {
      const own = new Trace(this.live);
      const outcome = translate(own);
      if (!succeeded(outcome) || own.commit()) {
        this.steps.push(...own.steps);
        return outcome;
      }
    }
  }

  /**
   * Sets the gathered bits. False, with none set, where an entry has changed since it was read, but for bits that are to
   * be set anyway: the processor's locked update fails then, and it walks again.
   */
  commit(): boolean {
    if (!this.live) return true;
    const stale = this.updates.some(({ memory, address, bytes, entry, mask }) => {
      return (memory.readEntry(address, bytes)! | mask) !== (entry | mask);
    });
    if (stale) return false;
    for (const update of this.updates) update.memory.setEntryBits(update.address, update.bytes, update.mask);
    return true;
  }
}
