/** The end of a fast walk: one test of what was gathered on the way, and of the leaf. */
import { PTE_P } from "../../abi/bits";
import { Plan } from "../../abi/records";
import { NOT_FAST, NOT_PRESENT } from "../plan";

/**
 * `leaf` maps 1 << `shift` bytes at `address`, `check` is the plan's for such a leaf, `wrong` what was found wrong above it.
 * The physical address, NOT_PRESENT or NOT_FAST.
 */
// @ts-ignore: decorator
@inline export function finish(
  plan: Plan,
  leaf: u64,
  check: u64,
  wrong: u64,
  addressMask: u64,
  address: u64,
  shift: u64,
): u64 {
  if ((wrong | ((leaf ^ plan.needLeaf) & check)) != 0) {
    return wrong == 0 && (leaf & PTE_P) == 0 ? NOT_PRESENT : NOT_FAST;
  }
  const offsetMask: u64 = ((<u64>1) << shift) - 1;
  return (leaf & addressMask & ~offsetMask) | (address & offsetMask);
}
