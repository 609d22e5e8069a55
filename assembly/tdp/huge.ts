// Huge pages: splitting them before writes are logged by small pages, and making room for them afterwards.
import { ROLE_LEVEL } from "../abi/role";
import { EV_SPLIT_HUGE, MEMSLOT_BASE, MEMSLOT_PAGES, SP_NO_HUGE, SP_SPTEP, TDP_PAGES, TDP_POOL_COUNT } from "../abi/shadow";
import { emit, tracing } from "../shadow/event";
import { flushRemote } from "../shadow/flush";
import { pageOfLink, previousOf } from "../shadow/list";
import { gfnOf, levelOf, pageOf, roleOf, spaceOf } from "../shadow/page";
import { mappingLevel } from "../shadow/slot";
import { entryPointer } from "../shadow/update";
import { splitSpte } from "../spte/make";
import { isLarge, isLast, isPresent } from "../spte/predicates";
import { changeEntry, EXCLUSIVE, linkTable, zapShared } from "./change";
import { iterGfn, iterIndex, iterLevel, iterNext, iterOld, iterSpace, iterSptep, iterStart, iterValid } from "./iterator";
import { takePage, tdpOf } from "./page";
import { firstRoot, nextRoot } from "./root";

/** Largest level of a huge page. */
// @ts-ignore: decorator
@inline const MOST: u32 = 3;

/** Pages that `splitLeaves` would take from the pool. */
export function countSplits(vm: usize, space: u32, start: u64, end: u64): u32 {
  const tdp = tdpOf(vm);
  let count: u32 = 0;
  for (let root = firstRoot(tdp, space, false); root != 0; root = nextRoot(tdp, root, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      if (!isPresent(iterOld(tdp)) || !isLarge(iterOld(tdp))) continue;
      // A page of 1 GiB becomes 512 of 2 MiB, which are split in turn.
      count += iterLevel(tdp) == 2 ? 1 : 513;
    }
  }
  return count;
}

/** Replaces the iterator's huge leaf by a table of smaller ones that map the same memory with the same rights. */
function split(vm: usize): void {
  const tdp = tdpOf(vm);
  const huge = iterOld(tdp);
  const level = iterLevel(tdp);
  const gfn = iterGfn(tdp);
  const sptep = iterSptep(tdp);
  const role = (roleOf(pageOf(vm, sptep)) & ~ROLE_LEVEL) | (level - 1);
  const sp = takePage(vm, iterIndex(tdp), role, sptep);
  for (let index: u32 = 0; index < 512; index++) store<u64>(entryPointer(sp, index), splitSpte(vm, huge, role, index));
  linkTable(vm, sptep, gfn, level, sp);
  if (tracing(vm)) emit(vm, EV_SPLIT_HUGE, level, 0, 0, gfn, huge, 0);
}

/** Splits the huge leaves of gfns [start, end) into pages of 4 KiB. The pool holds what `countSplits` said. */
export function splitLeaves(vm: usize, space: u32, start: u64, end: u64): void {
  const tdp = tdpOf(vm);
  for (let root = firstRoot(tdp, space, false); root != 0; root = nextRoot(tdp, root, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      if (isPresent(iterOld(tdp)) && isLarge(iterOld(tdp)) && load<u32>(tdp, TDP_POOL_COUNT) != 0) split(vm);
    }
  }
}

/** Zaps tables of a slot that one huge page could replace: the next fault makes it. */
export function collapseTables(vm: usize, space: u32, slot: usize): void {
  const tdp = tdpOf(vm);
  const start = load<u64>(slot, MEMSLOT_BASE);
  const end = start + <u64>load<u32>(slot, MEMSLOT_PAGES);
  for (let root = firstRoot(tdp, space, false); root != 0; root = nextRoot(tdp, root, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      const level = iterLevel(tdp);
      const gfn = iterGfn(tdp);
      if (level > MOST || !isPresent(iterOld(tdp)) || isLast(iterOld(tdp), level)) continue;
      if (gfn < start || mappingLevel(vm, slot, gfn, MOST) < level) continue;
      zapShared(vm, iterSpace(tdp), iterSptep(tdp), gfn, level);
    }
  }
}

/**
 * Gives up to `count` tables up, oldest first, that stand where the NX-huge-page mitigation forbade a huge page:
 * where nothing is executed any more the next fault makes the page large again. Returns how many there were.
 */
export function recoverHuge(vm: usize, count: u32): u32 {
  const head = tdpOf(vm) + TDP_PAGES;
  let done: u32 = 0;
  for (let link = previousOf(head); link != head && done < count; ) {
    const sp = pageOfLink(link);
    link = previousOf(link);
    if (load<u32>(sp, SP_NO_HUGE) == 0) continue;
    // The tables below it go as well: what comes before it in the list is looked up anew.
    changeEntry(vm, spaceOf(sp), load<u32>(sp, SP_SPTEP), gfnOf(sp), levelOf(sp) + 1, 0, EXCLUSIVE);
    link = previousOf(head);
    done++;
  }
  if (done != 0) flushRemote(vm);
  return done;
}
