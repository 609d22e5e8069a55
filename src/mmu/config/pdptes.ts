/** What a PAE page-directory-pointer-table entry may be when it is loaded. */
import { GeneralProtectionError } from "../../errors.js";

/** Bits 2:1 and 8:5, one of which some processors use as an accessed bit. */
const PDPTE_RESERVED = 0x1e6n;
const PDPTE_ACCESSED = 0x20n;

/** Bits that a present PDPTE must not have as it is loaded; `aliasMask` has address bits that are attributes. */
export function pdpteReservedBits(physicalBits: number, accessedAllowed: boolean, aliasMask = 0n): bigint {
  const high = ~((1n << BigInt(physicalBits)) - 1n) & ~aliasMask & 0xffff_ffff_ffff_ffffn;
  return high | (accessedAllowed ? PDPTE_RESERVED & ~PDPTE_ACCESSED : PDPTE_RESERVED);
}

/**
 * Checks PDPTEs as they are loaded against `pdpteReservedBits`. Throws GeneralProtectionError for reserved bits in a present one
 * (SDM, "PAE Paging", PDPTE registers).
 */
export function checkPdptes(values: readonly bigint[], reserved: bigint): void {
  const bad = values.findIndex((value) => value & 1n && value & reserved);
  if (bad >= 0) throw new GeneralProtectionError(`PDPTE ${bad} 0x${values[bad]!.toString(16)} has reserved bits`);
}
