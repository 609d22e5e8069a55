/**
 * Roots of the TDP MMU: one for each role, with a reference of each vCPU that uses it and one of the TDP MMU's own, which
 * it keeps until the root is invalidated.
 */
import { Link, ShadowPage, Tdp, Vm } from "../abi/records";
import { ROLE_INVALID } from "../abi/role";
import { KERNEL_RULE_ZAP_PASSES, TDP_PAGE_OWN, TDP_PAGE_ZAP_SCHEDULED } from "../abi/shadow";
import { broken } from "../pages/counters";
import { listAdd, pageOfLink } from "../pages/list";
import { levelOf, spaceOf } from "../pages/page";
import { isPresent } from "../spte/predicates";
import { SHARED, setIterated } from "./change";
import { iterAll, iterLevel, iterNext, iterOld, iterValid } from "./iterator";
import { freePage, takePage, tdpOf } from "./page";

/** Level at which a root is taken apart before the whole of it is. */
// @ts-ignore: decorator
@inline const ONE_GIB: u32 = 3;

// @ts-ignore: decorator
@inline function addReferences(sp: ShadowPage, count: u32): void {
  sp.rootCount += count;
}

// @ts-ignore: decorator
@inline function isInvalidRoot(root: ShadowPage): bool {
  return (root.role & ROLE_INVALID) != 0;
}

/** The first root of an address space from `link` on, null for none; invalid ones only `withInvalid`. */
function findRoot(tdp: Tdp, link: Link, space: u32, withInvalid: bool): ShadowPage | null {
  const head = tdp.roots;
  for (; link != head; link = link.next) {
    const root = pageOfLink(link);
    if (spaceOf(root) != space) continue;
    if (withInvalid || !isInvalidRoot(root)) return root;
  }
  return null;
}

/** The newest root of an address space, null for none. */
export function firstRoot(tdp: Tdp, space: u32, withInvalid: bool): ShadowPage | null {
  return findRoot(tdp, tdp.roots.next, space, withInvalid);
}

/** The root after `root`. */
export function nextRoot(tdp: Tdp, root: ShadowPage, space: u32, withInvalid: bool): ShadowPage | null {
  return findRoot(tdp, root.link.next, space, withInvalid);
}

/** The root of `role`, with a reference for the caller. The pool has a page. */
export function getRoot(vm: Vm, role: u32): ShadowPage {
  const tdp = tdpOf(vm);
  const head = tdp.roots;
  for (let link = head.next; link != head; link = link.next) {
    const root = pageOfLink(link);
    // An invalid root has another role.
    if (root.role != role) continue;
    addReferences(root, 1);
    return root;
  }
  const root = takePage(vm, 0, role, 0);
  addReferences(root, 2);
  listAdd(root.link, head);
  return root;
}

/** Drops a reference; the last one frees the root. */
export function putTdpRoot(vm: Vm, root: ShadowPage): void {
  const count = root.rootCount - 1;
  root.rootCount = count;
  if (count != 0) return;
  // The TDP MMU's own reference lasts until the root is invalid.
  if (!isInvalidRoot(root)) broken(vm);
  freePage(vm, root);
}

/** No vCPU may load a root that exists now; `zapInvalidRoots` then empties them. */
export function invalidateRoots(vm: Vm): void {
  const head = tdpOf(vm).roots;
  for (let link = head.next; link != head; link = link.next) {
    const root = pageOfLink(link);
    if (isInvalidRoot(root)) continue;
    root.role = root.role | ROLE_INVALID;
    root.tdp = TDP_PAGE_OWN | TDP_PAGE_ZAP_SCHEDULED;
  }
}

/** Clears the present entries of one level of a root. */
function zapLevel(vm: Vm, root: ShadowPage, level: u32): void {
  const tdp = tdpOf(vm);
  for (iterAll(vm, root, level); iterValid(tdp); iterNext(tdp)) {
    if (isPresent(iterOld(tdp)) && iterLevel(tdp) <= level) setIterated(vm, vm.empty, SHARED);
  }
}

/** Empties the roots that were invalidated, in rounds so that none takes apart too many tables at once. */
export function zapInvalidRoots(vm: Vm): void {
  const head = tdpOf(vm).roots;
  for (let link = head.next; link != head;) {
    const root = pageOfLink(link);
    link = link.next;
    if ((root.tdp & TDP_PAGE_ZAP_SCHEDULED) == 0) continue;
    root.tdp = TDP_PAGE_OWN;
    if (vm.rules & KERNEL_RULE_ZAP_PASSES) for (let level: u32 = 1; level < ONE_GIB; level++) zapLevel(vm, root, level);
    zapLevel(vm, root, ONE_GIB);
    zapLevel(vm, root, levelOf(root));
    putTdpRoot(vm, root);
  }
}
