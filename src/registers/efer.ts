/** Which bits of EFER a processor has, of those that paging depends on. */
import { bitOf, EFER } from "../abi/index.js";
import type { RegisterLoad } from "../api.js";
import { GeneralProtectionError, VmEntryError } from "../errors.js";

const UAIE = bitOf(EFER, "UAIE");

/**
 * Throws where `efer` has a bit that this processor does not have (APM vol. 2, "Upper Address Ignore"): GeneralProtectionError as
 * WRMSR, VmEntryError as VMRUN.
 */
export function checkEfer(efer: bigint, { uai }: { readonly uai: boolean }, loadedBy: RegisterLoad = "mov"): void {
  if (uai || (efer & UAIE) === 0n) return;
  const message = "EFER.UAIE is set on a processor without upper address ignore";
  throw loadedBy === "vm-entry" ? new VmEntryError(message) : new GeneralProtectionError(message);
}
