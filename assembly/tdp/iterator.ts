// The TDP iterator: a pre-order walk over the entries of one root that map gfns from a given one on.
// Its state lies in the TDP record, because at most one such walk is under way.
import {
  TDP_GFN,
  TDP_LEVEL,
  TDP_MIN_LEVEL,
  TDP_NEXT_GFN,
  TDP_OLD,
  TDP_PATH,
  TDP_ROOT_LEVEL,
  TDP_SPACE,
  TDP_SPTEP,
} from "../abi/shadow";
import { entryAt, pagesOf } from "../shadow/iterator";
import { childTable, levelOf, spaceOf, tableOf } from "../shadow/page";
import { isLast, isPresent } from "../spte/predicates";

/** The current entry, 0 at the end. */
// @ts-ignore: decorator
@inline export function iterSptep(tdp: usize): usize {
  return load<u32>(tdp, TDP_SPTEP);
}

/** First gfn that the current entry maps. */
// @ts-ignore: decorator
@inline export function iterGfn(tdp: usize): u64 {
  return load<u64>(tdp, TDP_GFN);
}

// @ts-ignore: decorator
@inline export function iterLevel(tdp: usize): u32 {
  return load<u32>(tdp, TDP_LEVEL);
}

/** The entry's value when the iterator came to it. */
// @ts-ignore: decorator
@inline export function iterOld(tdp: usize): u64 {
  return load<u64>(tdp, TDP_OLD);
}

// @ts-ignore: decorator
@inline export function iterSpace(tdp: usize): u32 {
  return load<u32>(tdp, TDP_SPACE);
}

/** Is there a current entry that maps gfns below `end`? */
// @ts-ignore: decorator
@inline export function iterBefore(tdp: usize, end: u64): bool {
  return iterSptep(tdp) != 0 && iterGfn(tdp) < end;
}

/** The current entry is a leaf. */
// @ts-ignore: decorator
@inline export function iterIsLeaf(tdp: usize): bool {
  return isPresent(iterOld(tdp)) && isLast(iterOld(tdp), iterLevel(tdp));
}

/** Puts the iterator on the entry for `gfn` in the table of `level`. */
function place(tdp: usize, gfn: u64, level: u32): void {
  const table: usize = load<u32>(tdp + (<usize>(level - 1) << 2), TDP_PATH);
  const sptep = entryAt(table, gfn << 12, level);
  store<u32>(tdp, level, TDP_LEVEL);
  store<u64>(tdp, gfn & ~(pagesOf(level) - 1), TDP_GFN);
  store<u32>(tdp, <u32>sptep, TDP_SPTEP);
  store<u64>(tdp, load<u64>(sptep), TDP_OLD);
}

/** Starts at the root's entry for `gfn`; levels below `minLevel` are not visited. */
export function iterStart(tdp: usize, root: usize, minLevel: u32, gfn: u64): void {
  const level = levelOf(root);
  store<u64>(tdp, gfn, TDP_NEXT_GFN);
  store<u32>(tdp, minLevel, TDP_MIN_LEVEL);
  store<u32>(tdp, level, TDP_ROOT_LEVEL);
  store<u32>(tdp, spaceOf(root), TDP_SPACE);
  store<u32>(tdp + (<usize>(level - 1) << 2), <u32>tableOf(root), TDP_PATH);
  place(tdp, gfn, level);
}

function stepDown(tdp: usize): bool {
  const level = iterLevel(tdp);
  if (level == load<u32>(tdp, TDP_MIN_LEVEL)) return false;
  // The visitor may have changed the entry: what it says now counts.
  const spte = load<u64>(iterSptep(tdp));
  if (!isPresent(spte) || isLast(spte, level)) return false;
  store<u32>(tdp + (<usize>(level - 2) << 2), <u32>childTable(spte), TDP_PATH);
  place(tdp, load<u64>(tdp, TDP_NEXT_GFN), level - 1);
  return true;
}

function stepSide(tdp: usize): bool {
  const level = iterLevel(tdp);
  const gfn = iterGfn(tdp);
  if (((gfn >> (9 * <u64>(level - 1))) & 511) == 511) return false;
  store<u64>(tdp, gfn + pagesOf(level), TDP_NEXT_GFN);
  place(tdp, gfn + pagesOf(level), level);
  return true;
}

/** Goes on to the next entry: down where a table is, else aside, else up and aside. */
export function iterNext(tdp: usize): void {
  if (stepDown(tdp)) return;
  for (;;) {
    if (stepSide(tdp)) return;
    const level = iterLevel(tdp);
    if (level == load<u32>(tdp, TDP_ROOT_LEVEL)) {
      store<u32>(tdp, 0, TDP_SPTEP);
      return;
    }
    place(tdp, iterGfn(tdp), level + 1);
  }
}
