/** The entries that a walk read, taken one after another, and the checks that are made of them. */
import type { WalkStep } from "../api.js";
import { entryName } from "../decode/entry.js";
import type { Check, CheckName, Factor } from "./explanation.js";

/** An entry of a walk. */
export interface Place {
  readonly stage: "guest" | "second";
  readonly level: number;
  readonly entryAddress: bigint;
  readonly entry: bigint;
}

/** Where no entry was read. */
export function nowhere(stage: Place["stage"], level = 0, entryAddress = 0n): Place {
  return { stage, level, entryAddress, entry: 0n };
}

/** A field of an entry. */
export function ofEntry(place: Place, name: string, value: bigint): Factor {
  return { of: entryName(place.level), name, value, entryAddress: place.entryAddress };
}

/** A bit of a register, or a number that the processor has. */
export function ofRegister(of: string, name: string, value: boolean | number | bigint): Factor {
  return { of, name, value: BigInt(value) };
}

export class CheckLog {
  readonly checks: Check[] = [];
  #at = 0;

  constructor(readonly steps: readonly WalkStep[]) {}

  /** The next entry that was read, if it is this one; undefined where it could not be. */
  read(stage: Place["stage"], level: number, address: bigint): Place | undefined {
    const step = this.steps[this.#at];
    if (step === undefined || step.stage !== stage || step.level !== level || step.address !== address)
      return undefined;
    this.#at++;
    return { stage, level, entryAddress: address, entry: step.entry };
  }

  /** Notes a check; returns whether it passed. */
  add(name: CheckName, passed: boolean, place: Place, factors: readonly Factor[], text: string): boolean {
    this.checks.push({ name, passed, ...place, factors, text });
    return passed;
  }
}
