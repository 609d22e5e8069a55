/**
 * Invariants of every leaf that is stored. A debug build traps where one is broken; in a release build nothing is left
 * of the checks. Source: check_spte_writable_invariants and the WARN_ONs of make_spte in arch/x86/kvm/mmu/spte.c.
 */
import { Vm } from "../abi/records";
import { SPTE_AD_DISABLED, SPTE_AD_TYPE, SPTE_SAVED_BITS, SPTE_SAVED_SHIFT } from "../abi/spte";
import { isAccessTracked, isMmuWritable, isPresent, isWritable } from "./predicates";

/** `spte`, a present leaf or one that is not present. */
// @ts-ignore: decorator
@inline export function checkedLeaf(vm: Vm, spte: u64): u64 {
  assert(keepsInvariants(vm, spte));
  return spte;
}

function keepsInvariants(vm: Vm, spte: u64): bool {
  if (!isPresent(spte)) return true;
  const hostWritable = (spte & vm.hostWritable) != 0;
  if (isMmuWritable(vm, spte) && !hostWritable) return false;
  if (isWritable(spte) && !isMmuWritable(vm, spte)) return false;
  // The fourth A/D type does not exist; rights are saved only while accesses are tracked, without A/D bits.
  if ((spte & SPTE_AD_TYPE) == SPTE_AD_TYPE) return false;
  const saved = (spte & (SPTE_SAVED_BITS << SPTE_SAVED_SHIFT)) != 0;
  return !saved || ((spte & SPTE_AD_TYPE) == SPTE_AD_DISABLED && isAccessTracked(vm, spte));
}
