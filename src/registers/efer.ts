/** Which bits of EFER a processor has, of those that paging depends on. */
import { bitOf, EFER } from "../abi/index.js";
import { GeneralProtectionError } from "../errors.js";

const UAIE = bitOf(EFER, "UAIE");

/** Throws GeneralProtectionError where `efer` has a bit that WRMSR refuses on this processor (APM vol. 2, "Upper Address Ignore"). */
export function checkEfer(efer: bigint, { uai }: { readonly uai: boolean }): void {
  if (uai || (efer & UAIE) === 0n) return;
  throw new GeneralProtectionError("EFER.UAIE is set on a processor without upper address ignore");
}
