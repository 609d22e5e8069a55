/** What a leaf entry says besides address and rights. */
import { bitOf, fieldOf, valueIn } from "../abi/bits.js";
import { PDE4M, PTE } from "../abi/entries.js";
import type { Leaf, PagingMode } from "../api.js";

const GLOBAL = bitOf(PTE, "G");
const ACCESSED = bitOf(PTE, "A");
const DIRTY = bitOf(PTE, "D");
const WRITE_THROUGH = bitOf(PTE, "PWT");
const CACHE_DISABLE = bitOf(PTE, "PCD");
/** In a level-1 entry PAT is where others have PS. */
const PAT_SMALL = bitOf(PTE, "PS");
const PAT_LARGE = bitOf(PDE4M, "PAT");
const KEY = fieldOf(PTE, "PKEY");

/** Names of the attributes: global, PAT index, accessed, dirty, protection key. */
export const LEAF_ATTRIBUTES = ["g", "pat", "a", "d", "pkey"] as const;
/** The name of a column of attributes. */
export type LeafAttribute = (typeof LEAF_ATTRIBUTES)[number];

/**
 * The attribute of a guest's leaf: 0 or 1 for `g`, `a` and `d`, 0 to 7 for `pat` (PAT<<2 | PCD<<1 | PWT), 0 to 15 for `pkey`, which is 0
 * in modes that have no keys. SDM vol. 3, "Paging-Mode Modifiers", "Protection Keys" and "Paging and Memory Typing".
 */
export function leafAttribute({ entry, level }: Leaf, attribute: LeafAttribute, mode: PagingMode): number {
  const flag = (bit: bigint) => ((entry & bit) === 0n ? 0 : 1);
  switch (attribute) {
    case "g":
      return flag(GLOBAL);
    case "a":
      return flag(ACCESSED);
    case "d":
      return flag(DIRTY);
    case "pat":
      return 4 * flag(level === 1 ? PAT_SMALL : PAT_LARGE) + 2 * flag(CACHE_DISABLE) + flag(WRITE_THROUGH);
    case "pkey":
      return mode === "4level" || mode === "5level" ? Number(valueIn(KEY, entry)) : 0;
  }
}
