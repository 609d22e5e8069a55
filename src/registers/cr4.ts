/** Which bits of CR4 a processor has, of those that paging depends on: for spaces and vCPUs. */
import { bitOf, CR0, CR4 } from "../abi/index.js";
import type { RegisterLoad } from "../api.js";
import { GeneralProtectionError, VmEntryError } from "../errors.js";

const WP = bitOf(CR0, "WP");
const CET = bitOf(CR4, "CET");
const LAM_SUP = bitOf(CR4, "LAM_SUP");
const LA57 = bitOf(CR4, "LA57");
const LASS = bitOf(CR4, "LASS");

export interface Cr4Processor {
  /** Linear-address masking (LAM). */
  readonly lam: boolean;
  /** 57-bit linear addresses. */
  readonly la57: boolean;
  /** Control-flow enforcement (CET). */
  readonly cet: boolean;
  /** Linear-address-space separation (LASS). */
  readonly lass: boolean;
}

/**
 * Throws where `cr4` has a bit that is reserved on this processor: GeneralProtectionError (SDM vol. 3, "Control Registers"), of a
 * VM entry VmEntryError ("Checks on Guest Control Registers, Debug Registers, and MSRs").
 */
export function checkCr4(cr4: bigint, { lam, la57, cet, lass }: Cr4Processor, loadedBy: RegisterLoad = "mov"): void {
  const has = (bit: bigint) => (cr4 & bit) !== 0n;
  if (!lam && has(LAM_SUP)) throw refusal(loadedBy, "CR4.LAM_SUP is set on a processor without LAM");
  if (!la57 && has(LA57)) throw refusal(loadedBy, "CR4.LA57 is set on a processor without 5-level paging");
  if (!cet && has(CET)) throw refusal(loadedBy, "CR4.CET is set on a processor without CET");
  if (!lass && has(LASS)) throw refusal(loadedBy, "CR4.LASS is set on a processor without LASS");
}

function refusal(loadedBy: RegisterLoad, message: string): GeneralProtectionError | VmEntryError {
  return loadedBy === "vm-entry" ? new VmEntryError(message) : new GeneralProtectionError(message);
}

/**
 * CR4.CET needs CR0.WP, so that no write makes a shadow-stack page of one that is read-only (SDM vol. 3, "Control Registers").
 * Throws GeneralProtectionError, or VmEntryError ("Checks on Guest Control Registers, Debug Registers, and MSRs").
 */
export function checkCet(cr0: bigint, cr4: bigint, loadedBy: RegisterLoad): void {
  if ((cr4 & CET) === 0n || (cr0 & WP) !== 0n) return;
  throw refusal(loadedBy, "CR4.CET is set without CR0.WP");
}
