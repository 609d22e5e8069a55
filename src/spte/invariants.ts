/** What is true of every SPTE that the engine stores; checked in debug builds and by the audit. */
import { bitOf } from "../abi/bits.js";
import { SPTE, SPTE_AD, SPTE_EPT, SPTE_LEGACY } from "../abi/spte.js";
import { SPTE_6_1, type SpteLayout } from "../abi/spte-layout.js";
import { adType, isAccessTracked, isMmio, isPresentIn, savedBits } from "./entry.js";
import type { SpteMasks } from "./masks.js";
import { type ReservedBits, reservedBitsSet } from "./reserved.js";

/** A rule that an SPTE breaks. */
export interface SpteCheck {
  readonly masks: SpteMasks;
  /** Level of the table that holds the entry, 1 to 5. */
  readonly level: number;
  /** The format's reserved bits; not checked if absent. */
  readonly reserved?: ReservedBits;
  /** The kernel's layout, from `spteLayoutOfKernel`. Default that of Linux 6.1. */
  readonly layout?: SpteLayout;
}

const W = bitOf(SPTE_LEGACY, "RW");
const PS = bitOf(SPTE, "PS");
const X = bitOf(SPTE_EPT, "X");

/**
 * The invariants that an entry breaks, in words; empty if none.
 * Host-writable and MMU-writable are those of leaves (check_spte_writable_invariants of Linux 6.1).
 */
export function brokenInvariants(spte: bigint, check: SpteCheck): string[] {
  const { masks, level, reserved, layout = SPTE_6_1 } = check;
  const broken: string[] = [];
  if (!isPresentIn(layout, spte, masks)) {
    // Only entries without memory carry the L1TF guard; anything else that is not present is 0 or removed.
    if (isMmio(spte, masks) && (spte & masks.nonpresentOrRsvd) !== masks.nonpresentOrRsvd) {
      broken.push("an MMIO entry lacks the L1TF guard bits");
    }
    return broken;
  }
  const hex = (bits: bigint) => `0x${bits.toString(16)}`;
  const leaf = level === 1 || (spte & PS) !== 0n;
  if (leaf) {
    if ((spte & masks.mmuWritable) !== 0n && (spte & masks.hostWritable) === 0n) {
      broken.push("MMU-writable but not host-writable");
    }
    if ((spte & W) !== 0n && (spte & masks.mmuWritable) === 0n) broken.push("writable but not MMU-writable");
  }
  const tracked = isAccessTracked(spte, masks, layout);
  if (!tracked && adType(spte, layout) === SPTE_AD.Disabled && (spte & savedBits(layout)) !== 0n) {
    broken.push("saved rights in an entry that is not access-tracked");
  }
  if (adType(spte, layout) === 3) broken.push("A/D type 3 is not defined");
  if (reserved !== undefined) {
    // Hardware sees an access-tracked entry as not present, so its rights cannot be bad.
    // To hardware either right to execute is one (__is_bad_mt_xwr of Linux 7.2).
    const executable = (spte & (masks.xUser ?? 0n)) === 0n ? spte : spte | X;
    const { bits, badRights } = reservedBitsSet(reserved, executable, level);
    if (bits !== 0n) broken.push(`reserved bits ${hex(bits)} are set`);
    if (badRights && !tracked) broken.push(`memory type and rights ${hex(spte & 0x3fn)} are a misconfiguration`);
  }
  return broken;
}
