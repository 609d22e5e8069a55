/**
 * The TDP iterator: a pre-order walk over the entries of one root that map a range of gfns, through one alias of the
 * range after the other, because these tables have no rmap that leads to all of them. An entry of an upper level that
 * lies over several aliases is visited for each. Its state lies in the TDP record: at most one walk is under way.
 */
import {
  TDP_ALIAS,
  TDP_ALIAS_MASK,
  TDP_GFN,
  TDP_LAST,
  TDP_LEVEL,
  TDP_MIN_LEVEL,
  TDP_NEXT_GFN,
  TDP_OLD,
  TDP_PATH,
  TDP_ROOT_LEVEL,
  TDP_SPACE,
  TDP_SPTEP,
  TDP_START,
  VM_ALIAS_MASK,
  VM_TDP_MMU,
} from "../abi/shadow";
import { entryAt, pagesOf } from "../pages/iterator";
import { childTable, levelOf, spaceOf, tableOf } from "../pages/page";
import { isLast, isPresent } from "../spte/predicates";

/** The current entry, 0 at the end. */
// @ts-ignore: decorator
@inline export function iterSptep(tdp: usize): usize {
  return load<u32>(tdp, TDP_SPTEP);
}

/** What the current entry maps from, as tables are indexed: a gfn with the alias bits of its address. */
// @ts-ignore: decorator
@inline export function iterIndex(tdp: usize): u64 {
  return load<u64>(tdp, TDP_GFN);
}

/** First gfn that the current entry maps. */
// @ts-ignore: decorator
@inline export function iterGfn(tdp: usize): u64 {
  return iterIndex(tdp) & ~load<u64>(tdp, TDP_ALIAS_MASK);
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

/** There is a current entry. */
// @ts-ignore: decorator
@inline export function iterValid(tdp: usize): bool {
  return iterSptep(tdp) != 0;
}

/** The current entry is a leaf. */
// @ts-ignore: decorator
@inline export function iterIsLeaf(tdp: usize): bool {
  return isPresent(iterOld(tdp)) && isLast(iterOld(tdp), iterLevel(tdp));
}

/** Puts the iterator on the entry for `gfn` in the table of `level`. */
function place(tdp: usize, gfn: u64, level: u32): void {
  const table: usize = load<u32>(tdp + ((<usize>(level - 1)) << 2), TDP_PATH);
  const sptep = entryAt(table, gfn << 12, level);
  store<u32>(tdp, level, TDP_LEVEL);
  store<u64>(tdp, gfn & ~(pagesOf(level) - 1), TDP_GFN);
  store<u32>(tdp, <u32>sptep, TDP_SPTEP);
  store<u64>(tdp, load<u64>(sptep), TDP_OLD);
}

/** Puts the iterator on the root's entry for the first gfn of the range through the current alias. */
function startAlias(tdp: usize): void {
  const first = load<u64>(tdp, TDP_START) | load<u64>(tdp, TDP_ALIAS);
  store<u64>(tdp, first, TDP_NEXT_GFN);
  place(tdp, first, load<u32>(tdp, TDP_ROOT_LEVEL));
}

function start(tdp: usize, root: usize, minLevel: u32, first: u64, last: u64, aliasMask: u64): void {
  const level = levelOf(root);
  store<u64>(tdp, first, TDP_START);
  store<u64>(tdp, last, TDP_LAST);
  store<u64>(tdp, aliasMask, TDP_ALIAS_MASK);
  store<u64>(tdp, 0, TDP_ALIAS);
  store<u32>(tdp, minLevel, TDP_MIN_LEVEL);
  store<u32>(tdp, level, TDP_ROOT_LEVEL);
  store<u32>(tdp, spaceOf(root), TDP_SPACE);
  store<u32>(tdp + ((<usize>(level - 1)) << 2), <u32>tableOf(root), TDP_PATH);
  startAlias(tdp);
}

/**
 * Starts a walk over the entries of `root` that map gfns [first, end) through every alias; levels below `minLevel` are not
 * visited. Of an empty range the entries that begin before it are visited, as the kernel's iterator does. No alias bit
 * may differ between `first` and `end - 1`.
 */
export function iterStart(vm: usize, root: usize, minLevel: u32, first: u64, end: u64): void {
  const tdp: usize = load<u32>(vm, VM_TDP_MMU);
  // No entry begins before gfn 0.
  if (end == 0) store<u32>(tdp, 0, TDP_SPTEP);
  else start(tdp, root, minLevel, first, end - 1, load<u64>(vm, VM_ALIAS_MASK));
}

/** Starts a walk over all entries of `root`. */
export function iterAll(vm: usize, root: usize, minLevel: u32): void {
  start(load<u32>(vm, VM_TDP_MMU), root, minLevel, 0, u64.MAX_VALUE, 0);
}

function stepDown(tdp: usize): bool {
  const level = iterLevel(tdp);
  if (level == load<u32>(tdp, TDP_MIN_LEVEL)) return false;
  // The visitor may have changed the entry: what it says now counts.
  const spte = load<u64>(iterSptep(tdp));
  if (!isPresent(spte) || isLast(spte, level)) return false;
  store<u32>(tdp + ((<usize>(level - 2)) << 2), <u32>childTable(spte), TDP_PATH);
  place(tdp, load<u64>(tdp, TDP_NEXT_GFN), level - 1);
  return true;
}

function stepSide(tdp: usize): bool {
  const level = iterLevel(tdp);
  const gfn = iterIndex(tdp);
  if (((gfn >> (9 * <u64>(level - 1))) & 511) == 511) return false;
  store<u64>(tdp, gfn + pagesOf(level), TDP_NEXT_GFN);
  place(tdp, gfn + pagesOf(level), level);
  return true;
}

/** Goes on in the tables: down where one is, else aside, else up and aside. False at the end of the root. */
function step(tdp: usize): bool {
  if (stepDown(tdp)) return true;
  while (!stepSide(tdp)) {
    const level = iterLevel(tdp);
    if (level == load<u32>(tdp, TDP_ROOT_LEVEL)) return false;
    place(tdp, iterIndex(tdp), level + 1);
  }
  return true;
}

/** Goes on to the next entry of the range, or to the range's next alias. */
export function iterNext(tdp: usize): void {
  const alias = load<u64>(tdp, TDP_ALIAS);
  if (step(tdp) && iterIndex(tdp) <= (load<u64>(tdp, TDP_LAST) | alias)) return;
  const mask = load<u64>(tdp, TDP_ALIAS_MASK);
  // Counts through the values that the mask's bits can have; after the last comes 0.
  const next = ((alias | ~mask) + 1) & mask;
  store<u64>(tdp, next, TDP_ALIAS);
  if (next == 0) store<u32>(tdp, 0, TDP_SPTEP);
  else startAlias(tdp);
}
