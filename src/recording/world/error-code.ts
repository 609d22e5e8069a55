/** Error codes of faults, as KVM has them whatever the vendor. */
import { bitOf, EPT_QUAL, PFERR } from "../../abi/index.js";
import { hasRule, type Kernel } from "../../abi/kernel-rules.js";

const READ = bitOf(EPT_QUAL, "READ");
const WRITE = bitOf(EPT_QUAL, "WRITE");
const FETCH = bitOf(EPT_QUAL, "FETCH");
const PRESENT = bitOf(EPT_QUAL, "READABLE") | bitOf(EPT_QUAL, "WRITABLE") | bitOf(EPT_QUAL, "EXECUTABLE");
const LINEAR = bitOf(EPT_QUAL, "GVA_VALID");
const FINAL = bitOf(EPT_QUAL, "GVA_FINAL");

/** Page-fault error code that KVM makes of an EPT violation's exit qualification (handle_ept_violation). */
export function pferrOfQualification(qualification: bigint, kernel: Kernel): bigint {
  let code = 0n;
  if ((qualification & READ) !== 0n) code |= bitOf(PFERR, "U");
  if ((qualification & WRITE) !== 0n) code |= bitOf(PFERR, "W");
  if ((qualification & FETCH) !== 0n) code |= bitOf(PFERR, "I");
  if ((qualification & PRESENT) !== 0n) code |= bitOf(PFERR, "P");
  if (hasRule(kernel, "linear-stages") && (qualification & LINEAR) === 0n) return code;
  return code | bitOf(PFERR, (qualification & FINAL) !== 0n ? "GUEST_FINAL" : "GUEST_PAGE");
}
