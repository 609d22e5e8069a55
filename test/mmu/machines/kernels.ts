/** The configuration of a random guest under the rules of a kernel. */
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { EMPTY_BIT_63 } from "../../../src/abi/spte.js";
import type { VirtualMachineConfig } from "../../../src/mmu/index.js";

/** The configuration under a kernel's rules, with the EPT masks that it sets. */
export function onKernel<C extends Partial<VirtualMachineConfig>>(config: C, kernel: Kernel): C & { kernel: Kernel } {
  const { masks, paging } = config;
  if (masks === undefined || paging !== "ept" || kernel === "6.1") return { ...config, kernel };
  const { present, mmio } = masks;
  return { ...config, kernel, masks: { ...masks, present: present | EMPTY_BIT_63, mmio: mmio | EMPTY_BIT_63 } };
}
