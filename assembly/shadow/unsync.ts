/**
 * Unsync pages: level-1 shadow pages whose guest tables may be written and which are synchronised at the next
 * flush. A bit per entry and a count lead from the root down to them.
 */
import {
  EV_SYNC_PAGE,
  EV_UNSYNC_PAGE,
  SP_PARENTS,
  SP_UNSYNC,
  SP_UNSYNC_BITMAP,
  SP_UNSYNC_CHILDREN,
  VM_PATH_INDEX,
  VM_PATH_PARENT,
  VM_UNSYNC,
  VM_WALK_COUNT,
  VM_WALK_PAGES,
} from "../abi/shadow";
import { firstInChain, nextInChain } from "../pages/chain";
import { broken } from "../pages/counters";
import { emitPage } from "../pages/event";
import { childOf, entryPointer, gfnOf, hasGptes, indexOf, isObsolete, levelOf, pageOf } from "../pages/page";
import { isTracked } from "../pages/slot";
import { isLarge, isPresent } from "../spte/predicates";
import { rmapFirst, rmapNext, rmapSptep } from "./rmap";

/** Pages that one walk collects, as in the kernel. */
// @ts-ignore: decorator
@inline const COLLECT: u32 = 16;

/** Tells the page of `sptep`, and upwards, that an unsync page lies below this entry. */
export function markUnsync(vm: usize, sptep: usize): void {
  const sp = pageOf(vm, sptep);
  const index = indexOf(sptep);
  const word = sp + SP_UNSYNC_BITMAP + ((<usize>(index >> 6)) << 3);
  const bit: u64 = (<u64>1) << (index & 63);
  const bits = load<u64>(word);
  if (bits & bit) return;
  store<u64>(word, bits | bit);
  const children = load<u32>(sp, SP_UNSYNC_CHILDREN);
  store<u32>(sp, children + 1, SP_UNSYNC_CHILDREN);
  if (children == 0) markParentsUnsync(vm, sp);
}

export function markParentsUnsync(vm: usize, sp: usize): void {
  const head = sp + SP_PARENTS;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) markUnsync(vm, rmapSptep(cursor));
}

function clearChildBit(vm: usize, sp: usize, index: u32): void {
  const word = sp + SP_UNSYNC_BITMAP + ((<usize>(index >> 6)) << 3);
  if (load<u32>(sp, SP_UNSYNC_CHILDREN) == 0) broken(vm);
  store<u32>(sp, load<u32>(sp, SP_UNSYNC_CHILDREN) - 1, SP_UNSYNC_CHILDREN);
  store<u64>(word, load<u64>(word) & ~((<u64>1) << (index & 63)));
}

export function unsyncPage(vm: usize, sp: usize): void {
  emitPage(vm, EV_UNSYNC_PAGE, sp, 0);
  store<u32>(vm, load<u32>(vm, VM_UNSYNC) + 1, VM_UNSYNC);
  store<u32>(sp, 1, SP_UNSYNC);
  markParentsUnsync(vm, sp);
}

export function unlinkUnsync(vm: usize, sp: usize): void {
  emitPage(vm, EV_SYNC_PAGE, sp, 0);
  store<u32>(sp, 0, SP_UNSYNC);
  store<u32>(vm, load<u32>(vm, VM_UNSYNC) - 1, VM_UNSYNC);
}

/**
 * A writable leaf for `gfn` is about to be made. Marks the shadow pages of `gfn` unsync and returns false, or
 * returns true where the leaf has to be read-only: writes are tracked (upper levels), or unsyncing is not allowed now.
 */
export function mustProtect(vm: usize, slot: usize, gfn: u64, mayUnsync: bool, prefetch: bool): bool {
  return isTracked(vm, slot, gfn) || !unsyncPages(vm, gfn, mayUnsync, prefetch);
}

/** Marks the shadow pages of a gfn that is not tracked unsync; false where that is not allowed now. */
export function unsyncPages(vm: usize, gfn: u64, mayUnsync: bool, prefetch: bool): bool {
  for (let sp = firstInChain(vm, gfn); sp != 0; sp = nextInChain(sp)) {
    if (gfnOf(sp) != gfn || isObsolete(vm, sp) || !hasGptes(sp)) continue;
    if (!mayUnsync) return false;
    if (load<u32>(sp, SP_UNSYNC) != 0) continue;
    if (prefetch) return false;
    if (levelOf(sp) != 1) broken(vm);
    unsyncPage(vm, sp);
  }
  return true;
}

// @ts-ignore: decorator
@inline function walkEntry(vm: usize, i: u32): usize {
  return vm + VM_WALK_PAGES + ((<usize>i) << 3);
}

/** Collects a page and the index that leads to it; returns true when the array is full. */
function collect(vm: usize, sp: usize, index: u32): bool {
  const count = load<u32>(vm, VM_WALK_COUNT);
  if (load<u32>(sp, SP_UNSYNC) != 0) {
    for (let i: u32 = 0; i < count; i++) if (<usize>load<u32>(walkEntry(vm, i)) == sp) return false;
  }
  store<u32>(walkEntry(vm, count), <u32>sp);
  store<u32>(walkEntry(vm, count), index, 4);
  store<u32>(vm, count + 1, VM_WALK_COUNT);
  return count + 1 == COLLECT;
}

/** Returns the number of unsync pages below `sp`, or -1 when the array is full. Bits that lead nowhere are cleared. */
function collectBelow(vm: usize, sp: usize): i32 {
  let found: i32 = 0;
  for (let w: u32 = 0; w < 8; w++) {
    let bits = load<u64>(sp + ((<usize>w) << 3), SP_UNSYNC_BITMAP);
    while (bits != 0) {
      const index = (w << 6) + <u32>ctz<u64>(bits);
      bits &= bits - 1;
      const spte = load<u64>(entryPointer(sp, index));
      if (!isPresent(spte) || isLarge(spte)) {
        clearChildBit(vm, sp, index);
        continue;
      }
      const child = childOf(vm, spte);
      if (load<u32>(child, SP_UNSYNC_CHILDREN) != 0) {
        if (collect(vm, child, index)) return -1;
        const below = collectBelow(vm, child);
        if (below < 0) return below;
        if (below == 0) clearChildBit(vm, sp, index);
        found += below;
      } else if (load<u32>(child, SP_UNSYNC) != 0) {
        found++;
        if (collect(vm, child, index)) return -1;
      } else clearChildBit(vm, sp, index);
    }
  }
  return found;
}

/** Collects up to 15 pages below `sp`; returns 0 when there is nothing to do. */
export function collectUnsync(vm: usize, sp: usize): i32 {
  store<u32>(vm, 0, VM_WALK_COUNT);
  if (load<u32>(sp, SP_UNSYNC_CHILDREN) == 0) return 0;
  collect(vm, sp, u32.MAX_VALUE);
  return collectBelow(vm, sp);
}

/** Position of the first level-1 page after `i`, with the path to it noted; the number of pages at the end. */
function advance(vm: usize, i: u32): u32 {
  const count = load<u32>(vm, VM_WALK_COUNT);
  for (i++; i < count; i++) {
    const sp: usize = load<u32>(walkEntry(vm, i));
    const level = levelOf(sp);
    store<u32>(vm + ((<usize>(level - 1)) << 2), load<u32>(walkEntry(vm, i), 4), VM_PATH_INDEX);
    if (level == 1) break;
    store<u32>(vm + ((<usize>(level - 2)) << 2), <u32>sp, VM_PATH_PARENT);
  }
  return i;
}

export function firstCollected(vm: usize): u32 {
  if (load<u32>(vm, VM_WALK_COUNT) == 0) return 0;
  const sp: usize = load<u32>(walkEntry(vm, 0));
  const level = levelOf(sp);
  store<u32>(vm + ((<usize>(level - 2)) << 2), <u32>sp, VM_PATH_PARENT);
  store<u32>(vm + ((<usize>(level - 1)) << 2), 0, VM_PATH_PARENT);
  return advance(vm, 0);
}

// @ts-ignore: decorator
@inline export function nextCollected(vm: usize, i: u32): u32 {
  return advance(vm, i);
}

/** The page at position `i`, 0 at the end. */
// @ts-ignore: decorator
@inline export function collectedPage(vm: usize, i: u32): usize {
  return i < load<u32>(vm, VM_WALK_COUNT) ? <usize>load<u32>(walkEntry(vm, i)) : 0;
}

/** The current page is in sync (or gone): clears the bits that lead to it, up to the first page with others below. */
export function clearPath(vm: usize): void {
  for (let level: usize = 0; ; level++) {
    const sp: usize = load<u32>(vm + (level << 2), VM_PATH_PARENT);
    if (sp == 0) return;
    clearChildBit(vm, sp, load<u32>(vm + (level << 2), VM_PATH_INDEX));
    if (load<u32>(sp, SP_UNSYNC_CHILDREN) != 0) return;
  }
}
