/** Which bits of CR4 a processor has, of those that paging depends on: for spaces and vCPUs. */
import { bitOf, CR4 } from "../abi/index.js";
import { GeneralProtectionError } from "../errors.js";

const LAM_SUP = bitOf(CR4, "LAM_SUP");
const LA57 = bitOf(CR4, "LA57");

export interface Cr4Processor {
  /** Linear-address masking (LAM). */
  readonly lam: boolean;
  /** 57-bit linear addresses. */
  readonly la57: boolean;
}

/** Throws GeneralProtectionError where `cr4` has a bit that is reserved on this processor (SDM vol. 3, "Control Registers"). */
export function checkCr4(cr4: bigint, { lam, la57 }: Cr4Processor): void {
  if (!lam && (cr4 & LAM_SUP) !== 0n) throw new GeneralProtectionError("CR4.LAM_SUP is set on a processor without LAM");
  if (!la57 && (cr4 & LA57) !== 0n)
    throw new GeneralProtectionError("CR4.LA57 is set on a processor without 5-level paging");
}
