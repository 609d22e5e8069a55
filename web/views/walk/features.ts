/** How entries of a walk are read: by the registers, where the walk is strict. */
import { bitOf, CR4, EFER } from "x86-paging/abi";
import type { EntryFeatures } from "x86-paging/decode";
import type { SpaceAnswer, WalkAnswer } from "../../engine/dump/answers.js";

export function featuresOf({ registers }: SpaceAnswer, { pse }: WalkAnswer, strict: boolean): EntryFeatures {
  const { cr4, efer, maxPhysAddr, encryptionMask } = registers;
  if (!strict) return { pse, encryption: encryptionMask };
  return {
    pse,
    encryption: encryptionMask,
    maxPhysAddr,
    nxe: (efer & bitOf(EFER, "NXE")) !== 0n,
    keys: (cr4 & (bitOf(CR4, "PKE") | bitOf(CR4, "PKS"))) !== 0n,
  };
}

/** Of the second stage's entries, whose rules do not depend on the guest's registers. */
export function hostFeatures({ registers }: SpaceAnswer): EntryFeatures {
  return { maxPhysAddr: registers.maxPhysAddr };
}
