/**
 * The TDP iterator: a pre-order walk over the entries of one root that map a range of gfns, through one alias of the
 * range after the other, because these tables have no rmap that leads to all of them. An entry of an upper level that
 * lies over several aliases is visited for each. Its state lies in the Tdp record: at most one walk is under way.
 */
import { ShadowPage, Tdp, Vm } from "../abi/records";
import { entryAt, pagesOf } from "../pages/iterator";
import { childTable, levelOf, spaceOf } from "../pages/page";
import { isLast, isPresent } from "../spte/predicates";
import { tdpOf } from "./page";

/** The current entry, 0 at the end. */
// @ts-ignore: decorator
@inline export function iterSptep(tdp: Tdp): usize {
  return tdp.sptep;
}

/** What the current entry maps from, as tables are indexed: a gfn with the alias bits of its address. */
// @ts-ignore: decorator
@inline export function iterIndex(tdp: Tdp): u64 {
  return tdp.gfn;
}

/** First gfn that the current entry maps. */
// @ts-ignore: decorator
@inline export function iterGfn(tdp: Tdp): u64 {
  return iterIndex(tdp) & ~tdp.aliasMask;
}

// @ts-ignore: decorator
@inline export function iterLevel(tdp: Tdp): u32 {
  return tdp.level;
}

/** The entry's value when the iterator came to it. */
// @ts-ignore: decorator
@inline export function iterOld(tdp: Tdp): u64 {
  return tdp.old;
}

// @ts-ignore: decorator
@inline export function iterSpace(tdp: Tdp): u32 {
  return tdp.space;
}

/** There is a current entry. */
// @ts-ignore: decorator
@inline export function iterValid(tdp: Tdp): bool {
  return iterSptep(tdp) != 0;
}

/** The current entry is a leaf. */
// @ts-ignore: decorator
@inline export function iterIsLeaf(tdp: Tdp): bool {
  return isPresent(iterOld(tdp)) && isLast(iterOld(tdp), iterLevel(tdp));
}

/** Puts the iterator on the entry for `gfn` in the table of `level`. */
function place(tdp: Tdp, gfn: u64, level: u32): void {
  const table = tdp.path(level - 1);
  const sptep = entryAt(table, gfn << 12, level);
  tdp.level = level;
  tdp.gfn = gfn & ~(pagesOf(level) - 1);
  tdp.sptep = sptep;
  tdp.old = load<u64>(sptep);
}

/** Puts the iterator on the root's entry for the first gfn of the range through the current alias. */
function startAlias(tdp: Tdp): void {
  const first = tdp.start | tdp.alias;
  tdp.nextGfn = first;
  place(tdp, first, tdp.rootLevel);
}

function start(tdp: Tdp, root: ShadowPage, minLevel: u32, first: u64, last: u64, aliasMask: u64): void {
  const level = levelOf(root);
  tdp.start = first;
  tdp.last = last;
  tdp.aliasMask = aliasMask;
  tdp.alias = 0;
  tdp.minLevel = minLevel;
  tdp.rootLevel = level;
  tdp.space = spaceOf(root);
  tdp.setPath(level - 1, <u32>root.spt);
  startAlias(tdp);
}

/**
 * Starts a walk over the entries of `root` that map gfns [first, end) through every alias; levels below `minLevel` are not
 * visited. Of an empty range the entries that begin before it are visited, as the kernel's iterator does. No alias bit
 * may differ between `first` and `end - 1`.
 */
export function iterStart(vm: Vm, root: ShadowPage, minLevel: u32, first: u64, end: u64): void {
  const tdp = tdpOf(vm);
  // No entry begins before gfn 0.
  if (end == 0) tdp.sptep = 0;
  else start(tdp, root, minLevel, first, end - 1, vm.aliasMask);
}

/** Starts a walk over all entries of `root`. */
export function iterAll(vm: Vm, root: ShadowPage, minLevel: u32): void {
  start(tdpOf(vm), root, minLevel, 0, u64.MAX_VALUE, 0);
}

function stepDown(tdp: Tdp): bool {
  const level = iterLevel(tdp);
  if (level == tdp.minLevel) return false;
  // The visitor may have changed the entry: what it says now counts.
  const spte = load<u64>(iterSptep(tdp));
  if (!isPresent(spte) || isLast(spte, level)) return false;
  tdp.setPath(level - 2, <u32>childTable(spte));
  place(tdp, tdp.nextGfn, level - 1);
  return true;
}

function stepSide(tdp: Tdp): bool {
  const level = iterLevel(tdp);
  const gfn = iterIndex(tdp);
  if (((gfn >> (9 * <u64>(level - 1))) & 511) == 511) return false;
  tdp.nextGfn = gfn + pagesOf(level);
  place(tdp, gfn + pagesOf(level), level);
  return true;
}

/** Goes on in the tables: down where one is, else aside, else up and aside. False at the end of the root. */
function step(tdp: Tdp): bool {
  if (stepDown(tdp)) return true;
  while (!stepSide(tdp)) {
    const level = iterLevel(tdp);
    if (level == tdp.rootLevel) return false;
    place(tdp, iterIndex(tdp), level + 1);
  }
  return true;
}

/** Goes on to the next entry of the range, or to the range's next alias. */
export function iterNext(tdp: Tdp): void {
  const alias = tdp.alias;
  if (step(tdp) && iterIndex(tdp) <= (tdp.last | alias)) return;
  const mask = tdp.aliasMask;
  // Counts through the values that the mask's bits can have; after the last comes 0.
  const next = ((alias | ~mask) + 1) & mask;
  tdp.alias = next;
  if (next == 0) tdp.sptep = 0;
  else startAlias(tdp);
}
