/** The Wasm core with every translation made by one of its fast ways, so that vectors judge those too. */

import { Access, BATCH_RESULT, bitOf, fieldOf, valueIn } from "../abi/index.js";
import type { AddressSpace, PagingEngine, Translation, U64 } from "../api.js";
import { type BatchKernel, type CoreSpace, decodeFault, loadSync } from "../core/index.js";

export const KERNEL_NAMES = ["full", "single", "tlb", "batch-scalar", "batch-phases"] as const;
/**
 * `full` is `translate`; `single` the fast calls; `tlb` those again, when the software TLB has the address; the others
 * batches of equal addresses by each kernel.
 */
export type KernelName = (typeof KERNEL_NAMES)[number];

/** Addresses in a batch: more than a block has. */
const LANES = 300;
const TLB_ENTRIES = 64;
const FAULT = bitOf(BATCH_RESULT, "FAULT");
const STATUS = fieldOf(BATCH_RESULT, "STATUS");
const ERROR = fieldOf(BATCH_RESULT, "ERROR");

/** What a fast way says: an address, or a status and the low bits of an error code. */
type Outcome = { readonly pa: bigint } | { readonly status: number; readonly errorCode: number };

/** Throws RangeError where two ways that are one kernel disagree. */
export function kernelEngine(kernel: KernelName): PagingEngine {
  const core = loadSync();
  if (kernel === "full") return core;
  /** The core's own space behind each: a second stage has to be one. */
  const own = new WeakMap<AddressSpace, CoreSpace>();
  const through = (space: CoreSpace): AddressSpace => {
    const made: AddressSpace = {
      mode: space.mode,
      translate: (address, access = Access.Read) => translate(space, kernel, address, access),
      walk: (address, access) => space.walk(address, access),
      leaves: () => space.leaves(),
      dispose: () => space.dispose(),
    };
    own.set(made, space);
    return made;
  };
  const withTlb = kernel === "tlb" ? { tlbEntries: TLB_ENTRIES } : {};
  return {
    createMemory: (config) => core.createMemory(config),
    createAddressSpace: (memory, { secondStage, ...config }) => {
      // With a second stage there is no software TLB: the fast calls walk, twice.
      const more = secondStage === undefined ? withTlb : { secondStage: own.get(secondStage) ?? secondStage };
      return through(core.createAddressSpace(memory, { ...config, ...more }));
    },
    createEpt: (memory, config) => through(core.createEpt(memory, config)),
    createNpt: (memory, config) => through(core.createNpt(memory, config)),
  };
}

/** The kernel's answer, with the details of a full walk that changes nothing. */
function translate(space: CoreSpace, kernel: Exclude<KernelName, "full">, address: U64, access: number): Translation {
  const linear = BigInt(address);
  const outcome =
    kernel === "single" || kernel === "tlb"
      ? single(space, linear, access, kernel === "tlb")
      : batch(space, linear, access, kernel === "batch-scalar" ? "scalar" : "phases");
  const full = space.translate(address, access | Access.Probe);
  if ("pa" in outcome) {
    if (!full.ok) throw new RangeError(`the kernel translates to 0x${outcome.pa.toString(16)}, the full walk faults`);
    return { ...full, pa: outcome.pa };
  }
  if (full.ok || full.status !== outcome.status) {
    throw new RangeError(
      `the kernel ends with status ${outcome.status}, the full walk ${full.ok ? "succeeds" : full.status}`,
    );
  }
  return { ...full, errorCode: (full.errorCode & ~0xffffn) | BigInt(outcome.errorCode) };
}

function single(space: CoreSpace, linear: bigint, access: number, again: boolean): Outcome {
  const [low, high] = [Number(linear & 0xffff_ffffn), Number(linear >> 32n)];
  let result = space.translateFast(high, low, access);
  if (again) result = space.translateFast(high, low, access);
  if (high === 0) {
    const narrow = space.translateFast32(low, access);
    if (narrow !== result) throw new RangeError(`translateFast gives ${result}, translateFast32 ${narrow}`);
  }
  return result < 0 ? decodeFault(result) : { pa: BigInt(result) };
}

function batch(space: CoreSpace, linear: bigint, access: number, kernel: BatchKernel): Outcome {
  const output = new BigUint64Array(LANES);
  space.translateBatch(new BigUint64Array(LANES).fill(linear), output, access, kernel);
  const first = output[0]!;
  const other = output.findIndex((one) => one !== first);
  if (other >= 0)
    throw new RangeError(`lane ${other} gives 0x${output[other]!.toString(16)}, lane 0 0x${first.toString(16)}`);
  if ((first & FAULT) === 0n) return { pa: first };
  return { status: Number(valueIn(STATUS, first)), errorCode: Number(valueIn(ERROR, first)) };
}
