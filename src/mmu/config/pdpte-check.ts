/** What a PAE page-directory-pointer-table entry may be when it is loaded. */
import { bitOf, PDPTE_PAE, PDPTE_PAE_RESERVED, PTE } from "../../abi/index.js";
import { GeneralProtectionError } from "../../errors.js";

/** Where other entries have their accessed bit; some processors use it as one here, too. */
const PDPTE_ACCESSED = bitOf(PTE, "A");
const PRESENT = bitOf(PDPTE_PAE, "P");

/** Bits that a present PDPTE must not have as it is loaded; `aliasMask` has address bits that are attributes. */
export function pdpteReservedBits(physicalBits: number, accessedAllowed: boolean, aliasMask = 0n): bigint {
  const high = ~((1n << BigInt(physicalBits)) - 1n) & ~aliasMask & 0xffff_ffff_ffff_ffffn;
  return high | (accessedAllowed ? PDPTE_PAE_RESERVED & ~PDPTE_ACCESSED : PDPTE_PAE_RESERVED);
}

/**
 * Checks PDPTEs as they are loaded against `pdpteReservedBits`. Throws GeneralProtectionError for reserved bits in a present one
 * (SDM, "PAE Paging", PDPTE registers).
 */
export function checkPdptes(values: readonly bigint[], reserved: bigint): void {
  const bad = values.findIndex((value) => value & PRESENT && value & reserved);
  if (bad >= 0) throw new GeneralProtectionError(`PDPTE ${bad} 0x${values[bad]!.toString(16)} has reserved bits`);
}
