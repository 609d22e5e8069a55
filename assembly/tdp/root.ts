/**
 * Roots of the TDP MMU: one for each role, with a reference of each vCPU that uses it and one of the TDP MMU's own, which
 * it keeps until the root is invalidated.
 */
import { ROLE_INVALID } from "../abi/role";
import { SP_ROLE, SP_ROOT_COUNT, SP_TDP, TDP_ROOTS } from "../abi/shadow";
import { broken } from "../pages/counters";
import { linkOf, listAdd, nextOf, pageOfLink } from "../pages/list";
import { levelOf, roleOf, spaceOf } from "../pages/page";
import { isPresent } from "../spte/predicates";
import { SHARED, setIterated } from "./change";
import { iterAll, iterLevel, iterNext, iterOld, iterValid } from "./iterator";
import { TDP_PAGE, TDP_ZAP_SCHEDULED, freePage, takePage, tdpOf } from "./page";

/** Level at which a root is taken apart first. */
// @ts-ignore: decorator
@inline const ONE_GIB: u32 = 3;

// @ts-ignore: decorator
@inline function addReferences(sp: usize, count: u32): void {
  store<u32>(sp, load<u32>(sp, SP_ROOT_COUNT) + count, SP_ROOT_COUNT);
}

// @ts-ignore: decorator
@inline function isInvalidRoot(root: usize): bool {
  return (roleOf(root) & ROLE_INVALID) != 0;
}

/** The first root of an address space from `link` on, 0 for none; invalid ones only `withInvalid`. */
function findRoot(tdp: usize, link: usize, space: u32, withInvalid: bool): usize {
  const head = tdp + TDP_ROOTS;
  for (; link != head; link = nextOf(link)) {
    const root = pageOfLink(link);
    if (spaceOf(root) != space) continue;
    if (withInvalid || !isInvalidRoot(root)) return root;
  }
  return 0;
}

/** The newest root of an address space, 0 for none. */
export function firstRoot(tdp: usize, space: u32, withInvalid: bool): usize {
  return findRoot(tdp, nextOf(tdp + TDP_ROOTS), space, withInvalid);
}

/** The root after `root`. */
export function nextRoot(tdp: usize, root: usize, space: u32, withInvalid: bool): usize {
  return findRoot(tdp, nextOf(linkOf(root)), space, withInvalid);
}

/** The root of `role`, with a reference for the caller. The pool has a page. */
export function getRoot(vm: usize, role: u32): usize {
  const tdp = tdpOf(vm);
  const head = tdp + TDP_ROOTS;
  for (let link = nextOf(head); link != head; link = nextOf(link)) {
    const root = pageOfLink(link);
    // An invalid root has another role.
    if (roleOf(root) != role) continue;
    addReferences(root, 1);
    return root;
  }
  const root = takePage(vm, 0, role, 0);
  addReferences(root, 2);
  listAdd(linkOf(root), head);
  return root;
}

/** Drops a reference; the last one frees the root. */
export function putTdpRoot(vm: usize, root: usize): void {
  const count = load<u32>(root, SP_ROOT_COUNT) - 1;
  store<u32>(root, count, SP_ROOT_COUNT);
  if (count != 0) return;
  // The TDP MMU's own reference lasts until the root is invalid.
  if (!isInvalidRoot(root)) broken(vm);
  freePage(vm, root);
}

/** No vCPU may load a root that exists now; `zapInvalidRoots` then empties them. */
export function invalidateRoots(vm: usize): void {
  const head = tdpOf(vm) + TDP_ROOTS;
  for (let link = nextOf(head); link != head; link = nextOf(link)) {
    const root = pageOfLink(link);
    if (isInvalidRoot(root)) continue;
    store<u32>(root, roleOf(root) | ROLE_INVALID, SP_ROLE);
    store<u32>(root, TDP_PAGE | TDP_ZAP_SCHEDULED, SP_TDP);
  }
}

/** Clears the present entries of one level of a root. */
function zapLevel(vm: usize, root: usize, level: u32): void {
  const tdp = tdpOf(vm);
  for (iterAll(vm, root, level); iterValid(tdp); iterNext(tdp)) {
    if (isPresent(iterOld(tdp)) && iterLevel(tdp) <= level) setIterated(vm, 0, SHARED);
  }
}

/** Empties the roots that were invalidated, in two rounds so that neither takes apart too many tables at once. */
export function zapInvalidRoots(vm: usize): void {
  const head = tdpOf(vm) + TDP_ROOTS;
  for (let link = nextOf(head); link != head;) {
    const root = pageOfLink(link);
    link = nextOf(link);
    if ((load<u32>(root, SP_TDP) & TDP_ZAP_SCHEDULED) == 0) continue;
    store<u32>(root, TDP_PAGE, SP_TDP);
    zapLevel(vm, root, ONE_GIB);
    zapLevel(vm, root, levelOf(root));
    putTdpRoot(vm, root);
  }
}
