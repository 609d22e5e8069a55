/** Zapping the shadow pages of a guest table so that the guest may write it (kvm_mmu_unprotect_page). */
import type { Machine } from "../machine/machine.js";

/** Returns whether there was one. */
export function unprotectGfn(vm: Machine, gfn: bigint): boolean {
  const found = vm.exports.unprotect(vm.pointer, Number(gfn >> 32n), Number(gfn & 0xffff_ffffn)) !== 0;
  vm.settle();
  return found;
}
