/** What a walk gathers while it goes: the entries it read and the bits it will set if it succeeds. */
import type { WalkStep } from "../api.js";
import type { PhysicalMemory } from "./memory.js";

/** Accessed and dirty bits to set in one entry. */
export interface EntryUpdate {
  readonly memory: PhysicalMemory;
  /** Where the entry really lies: after the second stage. */
  readonly address: bigint;
  readonly bytes: 4 | 8;
  readonly mask: bigint;
}

export class Trace {
  readonly steps: WalkStep[] = [];
  readonly updates: EntryUpdate[] = [];

  /**
   * Sets the gathered bits. Called once, when the whole access has succeeded: a failed access and a probe
   * leave memory as it was.
   */
  commit(): void {
    for (const update of this.updates) update.memory.setEntryBits(update.address, update.bytes, update.mask);
  }
}
