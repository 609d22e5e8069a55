/** Zapping: an entry, a page with everything that leads to and from it, the oldest pages, the obsolete ones. */
import { ROLE_GUEST_MODE, ROLE_INVALID } from "../abi/role";
import {
  EV_PREPARE_ZAP,
  SP_CURRENT,
  SP_GAP,
  SP_LINK,
  SP_PARENTS,
  SP_ROLE,
  SP_ROOT_COUNT,
  SP_UNSYNC,
  VM_FREED,
  VM_INDIRECT,
  VM_INVALID,
  VM_ROOT_REQUEST,
  VM_TDP,
  VM_USED,
  VM_ZAPPED,
  ZAPPED_OTHERS,
} from "../abi/shadow";
import { chainRemove } from "../pages/chain";
import { emitPage } from "../pages/event";
import { flushRemote } from "../pages/flush";
import { linkOf, listAdd, listDelete, listEmpty, listInit, nextOf, pageOfLink } from "../pages/list";
import {
  childOf,
  entryPointer,
  gfnOf,
  hasGptes,
  isAboveGuest,
  isObsolete,
  levelOf,
  pageOf,
  roleOf,
  spaceOf,
} from "../pages/page";
import { changeLpage, changeTrack, findSlot } from "../pages/slot";
import { isLast, isMmio, isPresent } from "../spte/predicates";
import { rmapFirst, rmapNext, rmapRemove, rmapSptep } from "./rmap";
import { clearPath, collectUnsync, collectedPage, firstCollected, nextCollected, unlinkUnsync } from "./unsync";
import { clearSpte, dropSpte } from "./update";

/** Unlinks a child page from one parent entry. */
export function dropParent(vm: usize, sp: usize, sptep: usize): void {
  rmapRemove(vm, sptep, sp + SP_PARENTS);
  clearSpte(vm, sptep);
}

/**
 * Clears one entry. With `collecting`, a nested guest's page that loses its last parent is zapped too
 * (it is unlikely to be used again); returns how many pages that zapped.
 */
export function zapEntry(vm: usize, sp: usize, sptep: usize, collecting: bool): u32 {
  const spte = load<u64>(sptep);
  if (isPresent(spte)) {
    if (isLast(spte, levelOf(sp))) {
      dropSpte(vm, sptep);
      return 0;
    }
    const child = childOf(vm, spte);
    dropParent(vm, child, sptep);
    const orphan = load<u32>(child, SP_ROOT_COUNT) == 0 && load<u32>(child, SP_PARENTS) == 0;
    if (collecting && orphan && isAboveGuest(child)) return zapPage(vm, child);
    // Tables right below the page-directory pointers are roots of their own in KVM: they stay.
    const collectible = load<u32>(vm, VM_TDP) != 0 && (roleOf(child) & ROLE_GUEST_MODE) != 0 && !isAboveGuest(sp);
    if (collecting && orphan && collectible) return zapPage(vm, child);
  } else if (isMmio(vm, spte)) clearSpte(vm, sptep);
  return 0;
}

function unlinkChildren(vm: usize, sp: usize): u32 {
  let zapped: u32 = 0;
  for (let index: u32 = 0; index < 512; index++) zapped += zapEntry(vm, sp, entryPointer(sp, index), true);
  return zapped;
}

/** The page stands above the guest's tables, and is a current root or below one. */
function isInCurrentRoot(vm: usize, sp: usize): bool {
  if (!isAboveGuest(sp)) return false;
  return load<u32>(sp, SP_CURRENT) != 0 || isPartOfRoot(vm, sp);
}

/** A table that leads on from the pages above the guest's tables of a current root: as little use to reclaim as the root. */
export function isPartOfRoot(vm: usize, sp: usize): bool {
  const head = sp + SP_PARENTS;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    if (isInCurrentRoot(vm, pageOf(vm, rmapSptep(cursor)))) return true;
  }
  return false;
}

/** Something is missing below a page above the guest's tables; each page up to the root says so. */
function markGap(vm: usize, sp: usize): void {
  store<u32>(sp, 1, SP_GAP);
  const head = sp + SP_PARENTS;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    const parent = pageOf(vm, rmapSptep(cursor));
    if (isAboveGuest(parent)) markGap(vm, parent);
  }
}

function unlinkParents(vm: usize, sp: usize): void {
  const head = sp + SP_PARENTS;
  while (load<u32>(head) != 0) {
    const sptep = rmapSptep(rmapFirst(head));
    // A table right below a current root's PDPTEs is part of the root: vCPUs fill the gap before they run on.
    const parent = pageOf(vm, sptep);
    if (isInCurrentRoot(vm, parent)) {
      markGap(vm, parent);
      store<u32>(vm, load<u32>(vm, VM_ROOT_REQUEST) | 2, VM_ROOT_REQUEST);
    }
    dropParent(vm, sp, sptep);
  }
}

function zapUnsyncChildren(vm: usize, parent: usize): u32 {
  if (levelOf(parent) == 1) return 0;
  let zapped: u32 = 0;
  while (collectUnsync(vm, parent) != 0) {
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == 0) break;
      zapPage(vm, sp);
      clearPath(vm);
      zapped++;
    }
  }
  return zapped;
}

function unaccount(vm: usize, sp: usize): void {
  store<u32>(vm, load<u32>(vm, VM_INDIRECT) - 1, VM_INDIRECT);
  const gfn = gfnOf(sp);
  const slot = findSlot(vm, spaceOf(sp), gfn);
  if (slot == 0) return;
  if (levelOf(sp) > 1) changeTrack(slot, gfn, -1);
  else changeLpage(slot, gfn, -1);
}

/**
 * Makes a page invalid, unlinks it, and puts it on the list of pages to free (unless it is a root in use).
 * Returns the number of pages zapped, and in bit 31 whether others than this one were.
 */
export function prepareZap(vm: usize, sp: usize): u32 {
  emitPage(vm, EV_PREPARE_ZAP, sp, 0);
  store<u32>(vm, load<u32>(vm, VM_ZAPPED) + 1, VM_ZAPPED);
  // The tables below a page that stands above the guest's own do not depend on it.
  let zapped = isAboveGuest(sp) ? 0 : zapUnsyncChildren(vm, sp);
  zapped += unlinkChildren(vm, sp);
  unlinkParents(vm, sp);
  const unstable: u32 = zapped != 0 ? ZAPPED_OTHERS : 0;

  const role = roleOf(sp);
  const wasInvalid = (role & ROLE_INVALID) != 0;
  if (!wasInvalid && hasGptes(sp)) unaccount(vm, sp);
  if (load<u32>(sp, SP_UNSYNC) != 0) unlinkUnsync(vm, sp);
  let zappedRoot = false;
  // An invalid page was a root in use and left the active list when it was zapped.
  if (!wasInvalid) listDelete(linkOf(sp));
  if (load<u32>(sp, SP_ROOT_COUNT) == 0) {
    zapped++;
    listAdd(linkOf(sp), vm + VM_INVALID);
    if (!isAboveGuest(sp)) store<u32>(vm, load<u32>(vm, VM_USED) - 1, VM_USED);
  } else zappedRoot = !isObsolete(vm, sp);
  store<u32>(sp, role | ROLE_INVALID, SP_ROLE);
  if (zappedRoot) store<u32>(vm, load<u32>(vm, VM_ROOT_REQUEST) | 1, VM_ROOT_REQUEST);
  return zapped | unstable;
}

export function zapPage(vm: usize, sp: usize): u32 {
  return prepareZap(vm, sp) & ~ZAPPED_OTHERS;
}

/** Frees the zapped pages: the host takes them from VM_FREED. */
export function commitZap(vm: usize): void {
  const head = vm + VM_INVALID;
  if (listEmpty(head)) return;
  flushRemote(vm);
  for (let link = nextOf(head); link != head;) {
    const sp = pageOfLink(link);
    link = nextOf(link);
    chainRemove(vm, sp);
    store<u32>(sp, load<u32>(vm, VM_FREED), SP_LINK);
    store<u32>(vm, <u32>sp, VM_FREED);
  }
  listInit(head);
}

/** Commits, or flushes where there is nothing to commit. */
export function flushOrZap(vm: usize, flush: bool): void {
  if (!listEmpty(vm + VM_INVALID)) commitZap(vm);
  else if (flush) flushRemote(vm);
}
