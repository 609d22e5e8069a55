/** Which roles a vCPU's contexts get when its registers or formats change. */
import { setL2Roles, setRootRoles } from "../context/context-roles.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { unloadRoots } from "../roots/root-requests.js";

/** kvm_init_mmu: of L2's own tables while it runs behind L1's second stage, of the guest's otherwise. */
export function initRoles(vm: Machine, cpu: Cpu): void {
  if (cpu.walksNested) setL2Roles(vm, cpu.nestedMmu, cpu.registers, cpu.roleMode);
  else setRootRoles(vm, cpu.rootMmu, cpu.role, cpu.registers);
}

/** Frees the roots and computes the roles anew (kvm_mmu_reset_context). */
export function resetContext(vm: Machine, cpu: Cpu): void {
  unloadRoots(cpu);
  initRoles(vm, cpu);
}

/** What formats are derived from has changed (kvm_mmu_after_set_cpuid). No nested guest runs. */
export function refreshFormats(vm: Machine, cpu: Cpu): void {
  for (const context of cpu.contexts) context.forgetRoles();
  resetContext(vm, cpu);
}
