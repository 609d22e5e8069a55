/**
 * The fast walk where tables lie in other slots than the root's, or in pages of a source: each is looked up. What it asks of
 * the entries and what it gives are the same.
 */
import { PTE_PS } from "../../abi/bits";
import { MODE_32BIT, MODE_PAE, NOT_READ } from "../../abi/codes";
import { Plan, Space } from "../../abi/records";
import { resolveAnywhere } from "../../memory/resolve";
import { NOT_FAST } from "../plan";
import { finish } from "./finish";

/** Entries of 32-bit paging above the leaf: the bits that are not address. The plan's others tell the root's slot from others. */
// @ts-ignore: decorator
@inline const FLAGS32: u64 = 0xfff;

/** The physical address, NOT_PRESENT or NOT_FAST; `address` is canonical as it is, and `space.fast` its mode. */
export function walkSlots(space: Space, plan: Plan, address: u64): u64 {
  const memory = space.memory;
  const mode = space.fast;
  const narrow = mode == MODE_32BIT;
  const indexBits: u64 = narrow ? 10 : 9;
  const large = space.largeLevels;
  const addressMask = space.addressMask;
  const need = plan.needTable;
  const check = narrow ? plan.checkTable & FLAGS32 : plan.checkTable;
  let wrong = plan.block;
  let level = space.rootLevel;
  let table = space.root;
  if (mode == MODE_PAE) {
    // Present: whoever comes here has looked.
    table = space.pdptes((<u32>address) >> 30) & addressMask;
    level = 2;
  }
  let shift: u64 = 12 + <u64>(level - 1) * indexBits;
  while (true) {
    const index = (<u32>(address >> shift)) & ((1 << (<u32>indexBits)) - 1);
    const pointer = resolveAnywhere(memory, table + (narrow ? index << 2 : index << 3));
    if (pointer >= NOT_READ) return NOT_FAST;
    const entry = narrow ? <u64>load<u32>(pointer) : load<u64>(pointer);
    if (level == 1) return finish(plan, entry, plan.checkPage, wrong, addressMask, address, shift);
    if ((entry & PTE_PS) != 0 && ((large >> level) & 1) != 0) {
      const checkLeaf = level == 2 ? plan.checkLarge2 : plan.checkLarge3;
      return finish(plan, entry, checkLeaf, wrong, addressMask, address, shift);
    }
    wrong |= (entry ^ need) & check;
    table = entry & addressMask;
    level--;
    shift -= indexBits;
  }
}
