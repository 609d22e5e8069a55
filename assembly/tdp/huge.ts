/** Huge pages: splitting them before writes are logged by small pages, and making room for them afterwards. */
import { Memslot, ShadowPage, Vm } from "../abi/records";
import { ROLE_LEVEL } from "../abi/role";
import { EV_SPLIT_HUGE } from "../abi/shadow";
import { emit, tracing } from "../pages/event";
import { entryPointer, levelOf, pageOf, spaceOf } from "../pages/page";
import { mappingLevel } from "../pages/slot";
import { splitSpte } from "../spte/make";
import { isLarge, isLast, isPresent } from "../spte/predicates";
import { EXCLUSIVE, changeEntry, linkTable, zapShared } from "./change";
import {
  iterGfn,
  iterIndex,
  iterLevel,
  iterNext,
  iterOld,
  iterSpace,
  iterSptep,
  iterStart,
  iterValid,
} from "./iterator";
import { takePage, tdpOf } from "./page";
import { firstRoot, nextRoot } from "./root";

/** Largest level of a huge page. */
// @ts-ignore: decorator
@inline const MOST: u32 = 3;

/** Pages that `splitLeaves` would take from the pool. */
export function countSplits(vm: Vm, slot: Memslot, start: u64, end: u64): u32 {
  const space = slot.space;
  const tdp = tdpOf(vm);
  let count: u32 = 0;
  for (let root = firstRoot(tdp, space, false); root != null; root = nextRoot(tdp, root!, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      if (!isPresent(iterOld(tdp)) || !isLarge(iterOld(tdp))) continue;
      // A page of 1 GiB becomes 512 of 2 MiB, which are split in turn.
      count += iterLevel(tdp) == 2 ? 1 : 513;
    }
  }
  return count;
}

/** Replaces the iterator's huge leaf by a table of smaller ones that map the same memory with the same rights. */
function split(vm: Vm): void {
  const tdp = tdpOf(vm);
  const huge = iterOld(tdp);
  const level = iterLevel(tdp);
  const gfn = iterGfn(tdp);
  const sptep = iterSptep(tdp);
  const role = (pageOf(vm, sptep).role & ~ROLE_LEVEL) | (level - 1);
  splitInto(vm, takePage(vm, iterIndex(tdp), role, sptep), sptep, huge, gfn, level);
}

/** Puts a table in the place of a huge leaf of `level` that maps `gfn` and up; it maps the same memory with the same rights. */
export function splitInto(vm: Vm, sp: ShadowPage, sptep: usize, huge: u64, gfn: u64, level: u32): void {
  for (let index: u32 = 0; index < 512; index++) {
    store<u64>(entryPointer(sp, index), splitSpte(vm, huge, sp.role, index));
  }
  linkTable(vm, sptep, gfn, level, sp);
  if (tracing(vm)) emit(vm, EV_SPLIT_HUGE, level, 0, 0, gfn, huge, 0);
}

/** Splits the huge leaves of gfns [start, end) into pages of 4 KiB. The pool holds what `countSplits` said. */
export function splitLeaves(vm: Vm, slot: Memslot, start: u64, end: u64): void {
  const space = slot.space;
  const tdp = tdpOf(vm);
  for (let root = firstRoot(tdp, space, false); root != null; root = nextRoot(tdp, root!, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      if (isPresent(iterOld(tdp)) && isLarge(iterOld(tdp)) && tdp.poolCount != 0) split(vm);
    }
  }
}

/** Zaps tables of a slot that one huge page could replace: the next fault makes it. */
export function collapseTables(vm: Vm, space: u32, slot: Memslot): void {
  const tdp = tdpOf(vm);
  const start = slot.base;
  const end = start + <u64>slot.pages;
  for (let root = firstRoot(tdp, space, false); root != null; root = nextRoot(tdp, root!, space, false)) {
    for (iterStart(vm, root, 2, start, end); iterValid(tdp); iterNext(tdp)) {
      const level = iterLevel(tdp);
      const gfn = iterGfn(tdp);
      if (level > MOST || !isPresent(iterOld(tdp)) || isLast(iterOld(tdp), level)) continue;
      if (gfn < start || mappingLevel(vm, slot, gfn, MOST) < level) continue;
      zapShared(vm, iterSpace(tdp), iterSptep(tdp), gfn, level);
    }
  }
}

/** Gives a table up, and the tables below it. */
export function recoverTable(vm: Vm, sp: ShadowPage): void {
  changeEntry(vm, spaceOf(sp), sp.sptep, sp.gfn, levelOf(sp) + 1, vm.empty, EXCLUSIVE);
}
