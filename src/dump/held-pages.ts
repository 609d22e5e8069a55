/** Going through the pages that a dump holds, for searches that stop and go on. */
import type { Dump } from "./dump.js";

const PAGE = 4096;

/** Frames in ascending order; a position, which `advance` moves. */
export class HeldPages {
  /** Pages that were passed, and all of them. */
  done = 0;
  readonly total: number;
  readonly #dump: Dump;
  #range = 0;
  #next: bigint | undefined;

  constructor(dump: Dump) {
    this.#dump = dump;
    this.total = Math.ceil(dump.memory.held.bytes / PAGE);
  }

  /** The frame at hand; undefined behind the last. */
  get frame(): bigint | undefined {
    const range = this.#dump.ranges[this.#range];
    return this.#next ?? (range && range.gpa / BigInt(PAGE));
  }

  advance(): void {
    const { frame } = this;
    const range = this.#dump.ranges[this.#range];
    if (frame === undefined || range === undefined) return;
    this.done++;
    if ((frame + 1n) * BigInt(PAGE) < range.gpa + range.size) this.#next = frame + 1n;
    else {
      this.#next = undefined;
      this.#range++;
    }
  }
}
