/** PSE-36: how wide the physical address of a 4 MiB page is. */
import type { Registers } from "./registers.js";

/** Number of physical-address bits that a 4 MiB page can have: 32 without PSE-36, else up to 40, in KVM always 36. */
export function pse36Width(registers: Registers): number {
  // KVM's is_cpuid_PSE36() is constant: the guest's CPUID is not asked.
  if (registers.rules === "kvm-6.1") return 36;
  if (!registers.pse36) return 32;
  // SDM vol. 3, "32-Bit Paging": M is the minimum of 40 and MAXPHYADDR.
  return Math.min(registers.lenient ? 40 : registers.maxPhysAddr, 40);
}
