/** Counters of a VM that more than one place keeps. */
import { SP_NO_HUGE, VM_BROKEN, VM_NO_HUGE_COUNT } from "../abi/shadow";

export function broken(vm: usize): void {
  store<u32>(vm, load<u32>(vm, VM_BROKEN) + 1, VM_BROKEN);
}

/** The page stands where a huge page was forbidden; pages are given up in the order in which that was noted. */
export function noteForbidden(vm: usize, sp: usize): void {
  if (load<u32>(sp, SP_NO_HUGE) != 0) return;
  const count = load<u32>(vm, VM_NO_HUGE_COUNT) + 1;
  store<u32>(vm, count, VM_NO_HUGE_COUNT);
  store<u32>(sp, count, SP_NO_HUGE);
}
