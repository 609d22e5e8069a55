/**
 * The buckets of shadow pages by gfn, which the core walks for every page of a gfn (write tracking, unsync). They grow with
 * the number of pages, so that a chain stays short: the kernel's 4096 are its whole hash.
 */
import { OutOfMemoryError } from "../../errors.js";
import type { LinearMemory, Place } from "../linear/linear-memory.js";
import type { VmRecord } from "../records/mmu.js";
import type { ShadowExports } from "../wasm/shadow-exports.js";

/** Of a bucket's number. */
export const LEAST_BITS = 12;
/** Bits added at a time. */
export const STEP = 2;

export class GfnChains {
  readonly #exports: ShadowExports;
  readonly #linear: LinearMemory;
  readonly #vm: VmRecord;
  #bits = LEAST_BITS;
  #address: number;

  /** Throws OutOfMemoryError. */
  constructor(exports: ShadowExports, linear: LinearMemory, vm: VmRecord) {
    this.#exports = exports;
    this.#linear = linear;
    this.#vm = vm;
    this.#address = linear.allocate(4 << LEAST_BITS);
    vm.chains = this.#address;
    vm.chainShift = 64 - LEAST_BITS;
  }

  /** Grows where `pages` are more than the buckets; without memory for it chains get longer, and nothing else happens. */
  reserve(pages: number): void {
    if (pages <= 2 ** this.#bits) return;
    try {
      this.grow(this.#bits + STEP);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
    }
  }

  get bits(): number {
    return this.#bits;
  }

  get place(): Place {
    return { address: this.#address, size: 4 << this.#bits };
  }

  /** Goes over to 2^`bits` buckets. Throws OutOfMemoryError. */
  grow(bits: number): void {
    if (bits === this.#bits) return;
    const address = this.#linear.allocate(4 << bits);
    this.#exports.growChains(this.#vm.at, address, bits);
    this.dispose();
    this.#address = address;
    this.#bits = bits;
  }

  dispose(): void {
    this.#linear.free(this.#address, 4 << this.#bits);
  }
}
