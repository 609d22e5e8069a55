/** Addresses for many faults in one call of the core, and their results. */
import type { LinearMemory } from "../linear/linear-memory.js";
import type { MmuCore } from "./mmu-core.js";

const ADDRESS_BYTES = 8;
const RESULT_BYTES = 4;

export class FaultLanes {
  /** Linear addresses. */
  readonly input: number;
  readonly output: number;
  readonly #linear: LinearMemory;

  /** @internal Throws OutOfMemoryError. */
  constructor(
    { internals: { linear } }: MmuCore,
    readonly length: number,
  ) {
    this.#linear = linear;
    this.input = linear.allocate(length * (ADDRESS_BYTES + RESULT_BYTES));
    this.output = this.input + length * ADDRESS_BYTES;
  }

  /** The first lanes get these addresses. */
  fill(addresses: BigUint64Array): void {
    this.#linear.u64.set(addresses, this.input >>> 3);
  }

  low(lane: number): number {
    return this.#linear.u32[(this.input >>> 2) + 2 * lane]!;
  }

  high(lane: number): number {
    return this.#linear.u32[(this.input >>> 2) + 2 * lane + 1]!;
  }

  result(lane: number): number {
    return this.#linear.u32[(this.output >>> 2) + lane]!;
  }

  setResult(lane: number, result: number): void {
    this.#linear.u32[(this.output >>> 2) + lane] = result;
  }

  /** The results of the first `count` lanes, good until the memory grows. */
  results(count: number): Uint32Array {
    return this.#linear.u32.subarray(this.output >>> 2, (this.output >>> 2) + count);
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#linear.free(this.input, this.length * (ADDRESS_BYTES + RESULT_BYTES));
  }
}
