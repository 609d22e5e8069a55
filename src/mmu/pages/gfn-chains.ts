/**
 * The buckets of shadow pages by gfn, which the core walks for every page of a gfn (write tracking, unsync). They grow with
 * the number of pages, so that a chain stays short: the kernel's 4096 are its whole hash.
 */
import type { CoreExports } from "../../core/exports.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { OutOfMemoryError } from "../../errors.js";
import { vmRecord } from "../memory/records.js";

const LEAST_BITS = 12;
/** Bits added at a time. */
const STEP = 2;

export class GfnChains {
  #bits = LEAST_BITS;
  #address: number;

  /** Throws OutOfMemoryError. */
  constructor(readonly linear: LinearMemory) {
    this.#address = linear.allocate(4 << LEAST_BITS);
  }

  /** Makes them those of a VM. */
  attach(vm: number): void {
    vmRecord.set32(this.linear, vm, "CHAINS", this.#address);
    vmRecord.set32(this.linear, vm, "CHAIN_SHIFT", 64 - this.#bits);
  }

  get buckets(): number {
    return 2 ** this.#bits;
  }

  /** Grows where `pages` are more than the buckets; without memory for it chains get longer, and nothing else happens. */
  reserve(exports: CoreExports, vm: number, pages: number): void {
    if (pages <= this.buckets) return;
    const bits = this.#bits + STEP;
    let address: number;
    try {
      address = this.linear.allocate(4 << bits);
    } catch (error) {
      if (error instanceof OutOfMemoryError) return;
      throw error;
    }
    exports.growChains(vm, address, bits);
    this.dispose();
    this.#address = address;
    this.#bits = bits;
  }

  dispose(): void {
    this.linear.free(this.#address, 4 << this.#bits);
  }
}
