/** The random guests as `x86-paging fuzz --vm` sees them: test/mmu/machines, which is built into dist/guests. */
import type { Kernel } from "../abi/kernel-rules.js";

/** A broken rule, shrunk to few operations. */
export interface GuestFinding {
  /** Where in the seed's sequence, for fast-check's `path`. */
  readonly path: string;
  /** The machine's kind and its operations. */
  readonly sequence: string;
  readonly message: string;
}

export interface GuestFuzzer {
  /** Every kind of machine, by name. */
  readonly names: readonly string[];
  /** Runs sequences on a machine; the first that breaks a rule comes back shrunk. Throws RangeError for an unknown name. */
  round(name: string, seed: number, runs: number, kernels: readonly Kernel[]): GuestFinding | undefined;
}

/** Resolved by package.json, from the sources and from dist alike. */
const GUESTS: string = "#guests";

export async function loadGuestFuzzer(): Promise<GuestFuzzer> {
  const { fuzzer } = (await import(/* @vite-ignore */ GUESTS)) as { fuzzer: GuestFuzzer };
  return fuzzer;
}
