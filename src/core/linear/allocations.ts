/** Linear memory that belongs together: all of it is given back at once, also when taking a part of it fails. */
import type { LinearMemory, Place } from "./linear-memory.js";

export class Allocations {
  readonly #blocks: [address: number, size: number][] = [];

  constructor(readonly linear: LinearMemory) {}

  /** Zeroed bytes. Throws OutOfMemoryError; what was taken before stays. */
  take(size: number, alignment?: number): number {
    const address = this.linear.allocate(size, alignment);
    this.#blocks.push([address, size]);
    return address;
  }

  /** Zeroed RAM that a caller may use as it likes, slots of other memories included. */
  lend(size: number): number {
    const address = this.linear.lend(size, 4096);
    this.#blocks.push([address, size]);
    return address;
  }

  /** Where everything lies that was taken and is still there. */
  get places(): Place[] {
    return this.#blocks.map(([address, size]) => ({ address, size }));
  }

  /** What was lent through another owner, which `handOver` has made forget it, is this one's. */
  adopt(places: readonly Place[]): void {
    for (const { address, size } of places) this.#blocks.push([address, size]);
  }

  /** Forgets blocks without giving them back. */
  handOver(places: readonly Place[]): void {
    for (const { address } of places) {
      const at = this.#blocks.findIndex(([block]) => block === address);
      if (at !== -1) this.#blocks.splice(at, 1);
    }
  }

  /** Gives one block back. */
  free(address: number): void {
    const at = this.#blocks.findIndex(([block]) => block === address);
    const [block] = this.#blocks.splice(at, 1);
    this.linear.takeBack(block![0], block![1]);
  }

  release(): void {
    for (const [address, size] of this.#blocks) this.linear.takeBack(address, size);
    this.#blocks.length = 0;
  }

  /** Runs `build`; if it throws, everything taken so far is given back. */
  guard<T>(build: () => T): T {
    try {
      return build();
    } catch (error) {
      this.release();
      throw error;
    }
  }
}
