/**
 * Where a recorded emulator is known to differ from the rule that the engines follow: each with its condition, and with the
 * option under which an engine does what the emulator does. A vector that fails passes as an exception only where it then
 * agrees in every point, and every use is counted in the summary.
 */
import { bitOf } from "../abi/bits.js";
import { CR4 } from "../abi/registers.js";
import type { CpuFeatures } from "../api.js";
import type { WalkVector } from "./vector.js";

export interface KnownException {
  readonly name: string;
  /** One line for people. */
  readonly reason: string;
  /** Whether it is about this vector. */
  applies(vector: WalkVector): boolean;
  readonly cpu: CpuFeatures;
}

export const KNOWN_EXCEPTIONS: readonly KnownException[] = [
  {
    name: "pkrs-user-access",
    reason: "the emulator reports no PK for a user access to a supervisor page whose IA32_PKRS key denies it",
    applies: ({ cr4, accesses }) =>
      (cr4 & bitOf(CR4, "PKS")) !== 0n &&
      accesses.some(
        ({ cpl, implicit, result }) =>
          cpl === 3 && !implicit && !result.ok && "vector" in result && result.vector === 14,
      ),
    cpu: { pkrsOnUserAccess: false },
  },
];
