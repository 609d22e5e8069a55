/** RET_PF_*, what a page fault's handler returns: the numbers differ between kernels (mmu/mmu_internal.h). */
import { hasRule, type Kernel } from "../../abi/kernel-rules.js";

/** By number, in kernels without RET_PF_WRITE_PROTECTED, and with it. */
const OLD_NAMES = ["continue", "retry", "emulate", "invalid", "fixed", "spurious"] as const;
const NEW_NAMES = ["continue", "retry", "emulate", "write-protected", "invalid", "fixed", "spurious"] as const;

export type FaultReturn = (typeof NEW_NAMES)[number];

/** Name of a number; undefined for one that the kernel does not have. */
export function faultReturnName(kernel: Kernel, code: number): FaultReturn | undefined {
  return names(kernel)[code];
}

/** Number of a name. */
export function faultReturnCode(kernel: Kernel, name: Exclude<FaultReturn, "write-protected">): number {
  return names(kernel).indexOf(name);
}

function names(kernel: Kernel): readonly FaultReturn[] {
  return hasRule(kernel, "write-protected") ? NEW_NAMES : OLD_NAMES;
}
