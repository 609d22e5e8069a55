/** Counters of a VM that more than one place keeps. */
import { ShadowPage, Vm } from "../abi/records";

export function broken(vm: Vm): void {
  vm.broken++;
}

/** The page stands where a huge page was forbidden; pages are given up in the order in which that was noted. */
export function noteForbidden(vm: Vm, sp: ShadowPage): void {
  if (sp.noHuge != 0) return;
  const count = vm.noHugeCount + 1;
  vm.noHugeCount = count;
  sp.noHuge = count;
}
