/**
 * Unsync pages: level-1 shadow pages whose guest tables may be written and which are synchronised at the next
 * flush. A bit per entry and a count lead from the root down to them.
 */
import { Memslot, ShadowPage, Vm } from "../abi/records";
import { EV_SYNC_PAGE, EV_UNSYNC_PAGE } from "../abi/shadow";
import { firstInChain, nextInChain } from "../pages/chain";
import { broken } from "../pages/counters";
import { emitPage } from "../pages/event";
import { childOf, entryPointer, hasGptes, indexOf, isObsolete, levelOf, pageOf, parentsOf } from "../pages/page";
import { isTracked } from "../pages/slot";
import { isLarge, isPresent } from "../spte/predicates";
import { rmapFirst, rmapNext, rmapSptep } from "./rmap";

/** Pages that one walk collects, as in the kernel. */
// @ts-ignore: decorator
@inline const COLLECT: u32 = 16;

/** Tells the page of `sptep`, and upwards, that an unsync page lies below this entry. */
export function markUnsync(vm: Vm, sptep: usize): void {
  const sp = pageOf(vm, sptep);
  const index = indexOf(sptep);
  const word = index >> 6;
  const bit: u64 = (<u64>1) << (index & 63);
  const bits = sp.unsyncBitmap(word);
  if (bits & bit) return;
  sp.setUnsyncBitmap(word, bits | bit);
  const children = sp.unsyncChildren;
  sp.unsyncChildren = children + 1;
  if (children == 0) markParentsUnsync(vm, sp);
}

export function markParentsUnsync(vm: Vm, sp: ShadowPage): void {
  const head = parentsOf(sp);
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) markUnsync(vm, rmapSptep(cursor));
}

function clearChildBit(vm: Vm, sp: ShadowPage, index: u32): void {
  const word = index >> 6;
  if (sp.unsyncChildren == 0) broken(vm);
  sp.unsyncChildren--;
  sp.setUnsyncBitmap(word, sp.unsyncBitmap(word) & ~((<u64>1) << (index & 63)));
}

export function unsyncPage(vm: Vm, sp: ShadowPage): void {
  emitPage(vm, EV_UNSYNC_PAGE, sp, 0);
  vm.unsync++;
  sp.unsync = 1;
  markParentsUnsync(vm, sp);
}

export function unlinkUnsync(vm: Vm, sp: ShadowPage): void {
  emitPage(vm, EV_SYNC_PAGE, sp, 0);
  sp.unsync = 0;
  vm.unsync--;
}

/**
 * A writable leaf for `gfn` is about to be made. Marks the shadow pages of `gfn` unsync and returns false, or
 * returns true where the leaf has to be read-only: writes are tracked (upper levels), or unsyncing is not allowed now.
 */
export function mustProtect(vm: Vm, slot: Memslot | null, gfn: u64, mayUnsync: bool, prefetch: bool): bool {
  return isTracked(vm, slot, gfn) || !unsyncPages(vm, gfn, mayUnsync, prefetch);
}

/** Marks the shadow pages of a gfn that is not tracked unsync; false where that is not allowed now. */
export function unsyncPages(vm: Vm, gfn: u64, mayUnsync: bool, prefetch: bool): bool {
  for (let sp = firstInChain(vm, gfn); sp != null; sp = nextInChain(sp!)) {
    if (sp.gfn != gfn || isObsolete(vm, sp) || !hasGptes(sp)) continue;
    if (!mayUnsync) return false;
    if (sp.unsync != 0) continue;
    if (prefetch) return false;
    if (levelOf(sp) != 1) broken(vm);
    unsyncPage(vm, sp);
  }
  return true;
}

/** Collects a page and the index that leads to it; returns true when the array is full. */
function collect(vm: Vm, sp: ShadowPage, index: u32): bool {
  const count = vm.walkCount;
  if (sp.unsync != 0) {
    for (let i: u32 = 0; i < count; i++) if (vm.walkPages(i).page == sp) return false;
  }
  const place = vm.walkPages(count);
  place.page = sp;
  place.index = index;
  vm.walkCount = count + 1;
  return count + 1 == COLLECT;
}

/** Returns the number of unsync pages below `sp`, or -1 when the array is full. Bits that lead nowhere are cleared. */
function collectBelow(vm: Vm, sp: ShadowPage): i32 {
  let found: i32 = 0;
  for (let w: u32 = 0; w < 8; w++) {
    let bits = sp.unsyncBitmap(w);
    while (bits != 0) {
      const index = (w << 6) + <u32>ctz<u64>(bits);
      bits &= bits - 1;
      const spte = load<u64>(entryPointer(sp, index));
      if (!isPresent(spte) || isLarge(spte)) {
        clearChildBit(vm, sp, index);
        continue;
      }
      const child = childOf(vm, spte);
      if (child.unsyncChildren != 0) {
        if (collect(vm, child, index)) return -1;
        const below = collectBelow(vm, child);
        if (below < 0) return below;
        if (below == 0) clearChildBit(vm, sp, index);
        found += below;
      } else if (child.unsync != 0) {
        found++;
        if (collect(vm, child, index)) return -1;
      } else clearChildBit(vm, sp, index);
    }
  }
  return found;
}

/** Collects up to 15 pages below `sp`; returns 0 when there is nothing to do. */
export function collectUnsync(vm: Vm, sp: ShadowPage): i32 {
  vm.walkCount = 0;
  if (sp.unsyncChildren == 0) return 0;
  collect(vm, sp, u32.MAX_VALUE);
  return collectBelow(vm, sp);
}

/** Position of the first level-1 page after `i`, with the path to it noted; the number of pages at the end. */
function advance(vm: Vm, i: u32): u32 {
  const count = vm.walkCount;
  for (i++; i < count; i++) {
    const sp = vm.walkPages(i).page;
    const level = levelOf(sp);
    vm.setPathIndex(level - 1, vm.walkPages(i).index);
    if (level == 1) break;
    vm.setPathParent(level - 2, sp);
  }
  return i;
}

export function firstCollected(vm: Vm): u32 {
  if (vm.walkCount == 0) return 0;
  const sp = vm.walkPages(0).page;
  const level = levelOf(sp);
  vm.setPathParent(level - 2, sp);
  vm.setPathParent(level - 1, null);
  return advance(vm, 0);
}

// @ts-ignore: decorator
@inline export function nextCollected(vm: Vm, i: u32): u32 {
  return advance(vm, i);
}

/** The page at position `i`, null at the end. */
// @ts-ignore: decorator
@inline export function collectedPage(vm: Vm, i: u32): ShadowPage | null {
  return i < vm.walkCount ? vm.walkPages(i).page : null;
}

/** The current page is in sync (or gone): clears the bits that lead to it, up to the first page with others below. */
export function clearPath(vm: Vm): void {
  for (let level: u32 = 0; ; level++) {
    const sp = vm.pathParent(level);
    if (sp == null) return;
    clearChildBit(vm, sp, vm.pathIndex(level));
    if (sp.unsyncChildren != 0) return;
  }
}
