/**
 * The entries of a translation that the fast walk has just made, read once more for the rights that it does not keep. Where
 * other threads write the tables meanwhile this is a walk of its own: nothing of the first is mixed with it.
 */
import { PTE_A, PTE_P } from "../../abi/bits";
import { MODE_32BIT, MODE_PAE, NOT_READ } from "../../abi/codes";
import { Space } from "../../abi/records";
import { resolve } from "../../memory/resolve";
import { isLeaf, rightsOf } from "../legacy";
import { reservedBits } from "../reserved";

/** What the fast walk has found in every entry. */
// @ts-ignore: decorator
@inline const PRESENT: u64 = PTE_P | PTE_A;

/** What no entry has taken away yet. */
// @ts-ignore: decorator
@inline const ALL_RIGHTS: u32 = 15;

/**
 * Leaves the leaf, its level and the rights over all levels in the Work record. False where the tables do not lead from
 * `address` to `pa`: they are others by now.
 */
export function readAgain(space: Space, address: u64, pa: u64): bool {
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const addressMask = space.addressMask;
  const mode = space.mode;
  const narrow = mode == MODE_32BIT;
  const indexBits: u32 = narrow ? 10 : 9;
  const bytes: u32 = narrow ? 2 : 3;
  let level = space.rootLevel;
  let table = space.root;
  if (mode == MODE_PAE) {
    level = 2;
    table = space.pdptes((<u32>address) >> 30) & addressMask;
  }
  let rights: u32 = ALL_RIGHTS;
  while (true) {
    const shift: u64 = 12 + (level - 1) * indexBits;
    const index = (<u32>(address >> shift)) & ((1 << indexBits) - 1);
    const offset = table - base + (index << bytes);
    let at = linear + <u32>offset;
    if (offset >= size) {
      at = resolve(space.memory, offset + base);
      if (at >= NOT_READ) return false;
    }
    const entry = narrow ? <u64>load<u32>(at) : load<u64>(at);
    if ((entry & PRESENT) != PRESENT || (entry & reservedBits(space, level, entry)) != 0) return false;
    rights &= rightsOf(space, entry);
    if (isLeaf(space, level, entry)) {
      const offsetMask: u64 = ((<u64>1) << shift) - 1;
      if (((entry & addressMask & ~offsetMask) | (address & offsetMask)) != pa) return false;
      const work = space.work;
      work.rights = rights;
      work.level = level;
      work.entry = entry;
      return true;
    }
    table = entry & addressMask;
    level--;
  }
}
