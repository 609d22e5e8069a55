/** EPTPs of an L1 hypervisor: which its VM's capabilities allow. */
import { eptpProblem } from "../../registers/eptp.js";
import type { VmFormats } from "./formats.js";

const WRITE_BACK = 6n;

/**
 * What is wrong with an L1's `eptp`, undefined where this VM lets it be used (nested_vmx_check_eptp): write-back, which is the
 * only type that Linux 6.1 offers; five levels and accessed and dirty flags where the host's processor has them.
 */
export function nestedEptpProblem({ tdp, limits }: VmFormats, eptp: bigint): string | undefined {
  if (tdp?.format !== "ept") return "no EPT: its host has none";
  return eptpProblem(eptp, {
    maxPhysAddr: limits.guestPhysicalBits,
    memoryTypes: [WRITE_BACK],
    fiveLevels: tdp.maxLevel === 5,
    accessedDirty: tdp.adBits,
    shadowStackControl: false,
  });
}
