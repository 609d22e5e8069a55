/** Zapping: an entry, a page with everything that leads to and from it, the oldest pages, the obsolete ones. */
import { ShadowPage, Vm } from "../abi/records";
import { ROLE_GUEST_MODE, ROLE_INVALID } from "../abi/role";
import { EV_PREPARE_ZAP, ROOT_REQUEST_GAP, ROOT_REQUEST_OBSOLETE, ZAPPED_OTHERS } from "../abi/shadow";
import { chainRemove } from "../pages/chain";
import { emitPage } from "../pages/event";
import { flushRemote } from "../pages/flush";
import { listAdd, listDelete, listEmpty, listInit, pageOfLink, setNextFree } from "../pages/list";
import {
  childOf,
  entryPointer,
  hasGptes,
  isAboveGuest,
  isObsolete,
  levelOf,
  pageOf,
  parentsOf,
  spaceOf,
} from "../pages/page";
import { changeLpage, changeTrack, findSlot } from "../pages/slot";
import { isLast, isMmio, isPresent } from "../spte/predicates";
import { rmapFirst, rmapNext, rmapRemove, rmapSptep } from "./rmap";
import { clearPath, collectUnsync, collectedPage, firstCollected, nextCollected, unlinkUnsync } from "./unsync";
import { clearSpte, dropSpte } from "./update";

/** Unlinks a child page from one parent entry. */
export function dropParent(vm: Vm, sp: ShadowPage, sptep: usize): void {
  rmapRemove(vm, sptep, parentsOf(sp));
  clearSpte(vm, sptep);
}

/**
 * Clears one entry. With `collecting`, a nested guest's page that loses its last parent is zapped too
 * (it is unlikely to be used again); returns how many pages that zapped.
 */
export function zapEntry(vm: Vm, sp: ShadowPage, sptep: usize, collecting: bool): u32 {
  const spte = load<u64>(sptep);
  if (isPresent(spte)) {
    if (isLast(spte, levelOf(sp))) {
      dropSpte(vm, sptep);
      return 0;
    }
    const child = childOf(vm, spte);
    dropParent(vm, child, sptep);
    const orphan = child.rootCount == 0 && child.parents == 0;
    if (collecting && orphan && isAboveGuest(child)) return zapPage(vm, child);
    // Tables right below the page-directory pointers are roots of their own in KVM: they stay.
    const collectible = vm.tdp != 0 && (child.role & ROLE_GUEST_MODE) != 0 && !isAboveGuest(sp);
    if (collecting && orphan && collectible) return zapPage(vm, child);
  } else if (isMmio(vm, spte)) clearSpte(vm, sptep);
  return 0;
}

function unlinkChildren(vm: Vm, sp: ShadowPage): u32 {
  let zapped: u32 = 0;
  for (let index: u32 = 0; index < 512; index++) zapped += zapEntry(vm, sp, entryPointer(sp, index), true);
  return zapped;
}

/** The page stands above the guest's tables, and is a current root or below one. */
function isInCurrentRoot(vm: Vm, sp: ShadowPage): bool {
  if (!isAboveGuest(sp)) return false;
  return sp.current != 0 || isPartOfRoot(vm, sp);
}

/** A table that leads on from the pages above the guest's tables of a current root: as little use to reclaim as the root. */
export function isPartOfRoot(vm: Vm, sp: ShadowPage): bool {
  const head = parentsOf(sp);
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    if (isInCurrentRoot(vm, pageOf(vm, rmapSptep(cursor)))) return true;
  }
  return false;
}

/** Something is missing below a page above the guest's tables; each page up to the root says so. */
function markGap(vm: Vm, sp: ShadowPage): void {
  sp.gap = 1;
  const head = parentsOf(sp);
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    const parent = pageOf(vm, rmapSptep(cursor));
    if (isAboveGuest(parent)) markGap(vm, parent);
  }
}

function unlinkParents(vm: Vm, sp: ShadowPage): void {
  const head = parentsOf(sp);
  while (load<u32>(head) != 0) {
    const sptep = rmapSptep(rmapFirst(head));
    // A table right below a current root's PDPTEs is part of the root: vCPUs fill the gap before they run on.
    const parent = pageOf(vm, sptep);
    if (isInCurrentRoot(vm, parent)) {
      markGap(vm, parent);
      vm.rootRequest |= ROOT_REQUEST_GAP;
    }
    dropParent(vm, sp, sptep);
  }
}

function zapUnsyncChildren(vm: Vm, parent: ShadowPage): u32 {
  if (levelOf(parent) == 1) return 0;
  let zapped: u32 = 0;
  while (collectUnsync(vm, parent) != 0) {
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == null) break;
      zapPage(vm, sp);
      clearPath(vm);
      zapped++;
    }
  }
  return zapped;
}

function unaccount(vm: Vm, sp: ShadowPage): void {
  vm.indirect--;
  const gfn = sp.gfn;
  const slot = findSlot(vm, spaceOf(sp), gfn);
  if (slot == null) return;
  if (levelOf(sp) > 1) changeTrack(slot, gfn, -1);
  else changeLpage(slot, gfn, -1);
}

/**
 * Makes a page invalid, unlinks it, and puts it on the list of pages to free (unless it is a root in use).
 * Returns the number of pages zapped, and in bit 31 whether others than this one were.
 */
export function prepareZap(vm: Vm, sp: ShadowPage): u32 {
  emitPage(vm, EV_PREPARE_ZAP, sp, 0);
  vm.zapped++;
  // The tables below a page that stands above the guest's own do not depend on it.
  let zapped = isAboveGuest(sp) ? 0 : zapUnsyncChildren(vm, sp);
  zapped += unlinkChildren(vm, sp);
  unlinkParents(vm, sp);
  const unstable: u32 = zapped != 0 ? ZAPPED_OTHERS : 0;

  const role = sp.role;
  const wasInvalid = (role & ROLE_INVALID) != 0;
  if (!wasInvalid && hasGptes(sp)) unaccount(vm, sp);
  if (sp.unsync != 0) unlinkUnsync(vm, sp);
  let zappedRoot = false;
  // An invalid page was a root in use and left the active list when it was zapped.
  if (!wasInvalid) listDelete(sp.link);
  if (sp.rootCount == 0) {
    zapped++;
    listAdd(sp.link, vm.invalid);
    if (!isAboveGuest(sp)) vm.used--;
  } else zappedRoot = !isObsolete(vm, sp);
  sp.role = role | ROLE_INVALID;
  if (zappedRoot) vm.rootRequest |= ROOT_REQUEST_OBSOLETE;
  return zapped | unstable;
}

export function zapPage(vm: Vm, sp: ShadowPage): u32 {
  return prepareZap(vm, sp) & ~ZAPPED_OTHERS;
}

/** Frees the zapped pages: the host takes them from `vm.freed`. */
export function commitZap(vm: Vm): void {
  const head = vm.invalid;
  if (listEmpty(head)) return;
  flushRemote(vm);
  for (let link = head.next; link != head;) {
    const sp = pageOfLink(link);
    link = link.next;
    chainRemove(vm, sp);
    setNextFree(sp, vm.freed);
    vm.freed = sp;
  }
  listInit(head);
}

/** Commits, or flushes where there is nothing to commit. */
export function flushOrZap(vm: Vm, flush: bool): void {
  if (!listEmpty(vm.invalid)) commitZap(vm);
  else if (flush) flushRemote(vm);
}
