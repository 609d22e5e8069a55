/** Counters of a VM that more than one place keeps. */
import { ShadowPage, Vm } from "../abi/records";
import { KERNEL_RULE_NX_EVERY_PAGE } from "../abi/shadow";

export function broken(vm: Vm): void {
  vm.broken++;
}

/**
 * The page was made where the NX mitigation forbids a huge page; `alone`: nothing else prevents one. Such pages are given up
 * in the order in which that was noted.
 */
export function noteForbidden(vm: Vm, sp: ShadowPage, alone: bool): void {
  if (alone || (vm.rules & KERNEL_RULE_NX_EVERY_PAGE) != 0) sp.forbidden = 1;
  if (!alone || sp.noHuge != 0) return;
  const count = vm.noHugeCount + 1;
  vm.noHugeCount = count;
  sp.noHuge = count;
}
