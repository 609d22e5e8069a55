/** Batches of addresses: how they are translated, and arrays for them that need no copying. */
import { CODES } from "../../abi/index.js";
import type { Releasable } from "../../api.js";
import { checkInteger, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";

/**
 * How a batch is translated: "scalar" each address by itself, "phases" in blocks, one pass a level, "auto" in blocks as
 * long as most addresses of a block are the common case.
 */
export type BatchKernel = "auto" | "scalar" | "phases";

const KERNELS: Readonly<Record<BatchKernel, number>> = {
  auto: CODES.KERNEL_AUTO,
  scalar: CODES.KERNEL_SCALAR,
  phases: CODES.KERNEL_PHASES,
};

/** The KERNEL_* code; throws RangeError for another name. */
export function kernelCode(kernel: BatchKernel): number {
  const code = typeof kernel === "string" && Object.hasOwn(KERNELS, kernel) ? KERNELS[kernel] : undefined;
  if (code === undefined) throw new RangeError(`kernel is ${show(kernel)}, expected "auto", "scalar" or "phases"`);
  return code;
}

/** Linear memory has 4 GiB, an address and its result take 16 bytes. */
const MOST = 2 ** 28;

/**
 * Addresses and their results in the core's own memory, for `CoreSpace.translateBuffer`: nothing is copied. The arrays are
 * views: take them from here again after anything that may have grown the memory (creating memories, spaces or buffers,
 * translating in a memory with a page source), which empties the old ones.
 */
export class BatchBuffer implements Releasable {
  readonly #address: number;
  #input: BigUint64Array | undefined;
  #output: BigUint64Array | undefined;
  #disposed = false;

  /** Throws RangeError for a bad length, OutOfMemoryError where there is no room. */
  constructor(
    /** @internal */
    readonly linear: LinearMemory,
    /** Addresses that it holds. */
    readonly length: number,
  ) {
    checkInteger(length, 1, MOST, "the length of a batch buffer", RangeError);
    this.#address = linear.allocate(length * 16);
  }

  /** Linear address of the first input; the outputs follow the inputs. Throws ConfigError after `dispose`. */
  get address(): number {
    if (this.#disposed) throw new ConfigError("the batch buffer was disposed");
    return this.#address;
  }

  /** The addresses to translate, for the caller to fill. */
  get input(): BigUint64Array {
    if (this.#isOld(this.#input)) this.#input = this.#view(this.address);
    return this.#input!;
  }

  /** What they translate to: a physical address, or bit 63 | status << 16 | error code. */
  get output(): BigUint64Array {
    if (this.#isOld(this.#output)) this.#output = this.#view(this.address + this.length * 8);
    return this.#output!;
  }

  /** Gives the memory back. Idempotent; the buffer and its arrays may not be used afterwards. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.linear.free(this.#address, this.length * 16);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #isOld(view: BigUint64Array | undefined): boolean {
    return this.#disposed || view?.buffer !== this.linear.memory.buffer;
  }

  #view(address: number): BigUint64Array {
    return new BigUint64Array(this.linear.memory.buffer, address, this.length);
  }
}
