/** The shadow-table iterator: a level and the entry's linear address. It holds no policy. */
import { ShadowPage } from "../abi/records";
import { isLast, isPresent } from "../spte/predicates";
import { childTable, levelOf } from "./page";

/** Number of 4 KiB pages that an entry of `level` maps. */
// @ts-ignore: decorator
@inline export function pagesOf(level: u32): u64 {
  return (<u64>1) << (9 * ((level - 1) as u64));
}

/** The entry for `address` in the table at linear address `table`. */
// @ts-ignore: decorator
@inline export function entryAt(table: usize, address: u64, level: u32): usize {
  return table + ((<usize>((address >> (12 + 9 * <u64>(level - 1))) & 511)) << 3);
}

/** The root's entry; every root is a page with a level of its own. */
// @ts-ignore: decorator
@inline export function rootEntry(root: ShadowPage, address: u64): usize {
  return entryAt(root.spt, address, levelOf(root));
}

/** The entry one level down, 0 where the walk ends at `sptep`. */
export function nextEntry(sptep: usize, address: u64, level: u32): usize {
  const spte = load<u64>(sptep);
  if (!isPresent(spte) || isLast(spte, level)) return 0;
  return entryAt(childTable(spte), address, level - 1);
}
