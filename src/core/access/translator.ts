/** What accesses need of an address space. */
import type { Fault, Translation, U64 } from "../../api.js";
import type { CoreMemory } from "../memory/memory.js";

export interface Translator {
  /** What physical addresses lead to. */
  readonly memory: CoreMemory;
  /** Linear addresses have 32 bits, and go on at 0 after the last one. */
  readonly isNarrow: boolean;
  translate(address: U64, access?: number): Translation;
  translateFast(high: number, low: number, access: number): number;
  /** Bytes of the page, of two stages the smaller one, that `translate` has just found. */
  lastPageBytes(): number;
}

/** `high:low`, halves of 32 bits each, signed or not. */
export function joined(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/**
 * The fault of `high:low`, or its physical address: `translate` has the last word where `translateFast` refused. They differ
 * only where tables have changed meanwhile, which a page source may do whose answers change.
 */
export function faultOrAddress(space: Translator, high: number, low: number, access: number): Fault | number {
  const result = space.translate(joined(high, low), access);
  return result.ok ? Number(result.pa) : result;
}
