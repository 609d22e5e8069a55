/** EPTPs of an L1 hypervisor: which its VM's capabilities allow, and which name the same table. */
import { bitOf, EPT, EPTP, placed } from "../../abi/index.js";
import type { VmFormats } from "./formats.js";

const TABLE = bitOf(EPT, "ADDRESS");
const WRITE_BACK = placed(EPTP, "MEMTYPE", 6n);
/** Levels less one, at bit 3. */
const WALK_LENGTH = bitOf(EPTP, "WALK_LENGTH");
const FOUR_LEVELS = placed(EPTP, "WALK_LENGTH", 3n);
const FIVE_LEVELS = placed(EPTP, "WALK_LENGTH", 4n);
const ACCESSED_DIRTY = bitOf(EPTP, "AD");
/** Bits 11:7; bit 7 is for supervisor shadow stacks. */
const RESERVED = 0xfffn & ~(WALK_LENGTH | ACCESSED_DIRTY | bitOf(EPTP, "MEMTYPE"));

/**
 * Whether an L1 of this VM may use `eptp` (nested_vmx_check_eptp): write-back, which is the only type that Linux 6.1 offers;
 * five levels and accessed and dirty flags where the host's processor has them; no reserved bit, none from MAXPHYADDR on.
 */
export function isValidEptp({ tdp, limits }: VmFormats, eptp: bigint): boolean {
  if (tdp?.format !== "ept") return false;
  const length = eptp & WALK_LENGTH;
  const hasLevels = length === FOUR_LEVELS || (length === FIVE_LEVELS && tdp.maxLevel === 5);
  const hasFlags = tdp.adBits || (eptp & ACCESSED_DIRTY) === 0n;
  const isAddress = eptp >= 0n && eptp >> BigInt(limits.guestPhysicalBits) === 0n && (eptp & RESERVED) === 0n;
  return (eptp & bitOf(EPTP, "MEMTYPE")) === WRITE_BACK && hasLevels && hasFlags && isAddress;
}

/** EPTPs of the same table (nested_ept_root_matches): a processor's TLB goes by the table, not by the whole EPTP. */
export function sameEptTable(a: bigint, b: bigint): boolean {
  return ((a ^ b) & TABLE) === 0n;
}
