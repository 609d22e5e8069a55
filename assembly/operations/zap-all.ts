/** Zapping for the host: every page at once, those of a guest table, a root that nobody holds any more. */
import { ROLE_INVALID } from "../abi/role";
import {
  EV_ZAP_ALL_FAST,
  SP_CHAIN,
  SP_ROOT_COUNT,
  VM_ACTIVE,
  VM_ROOT_REQUEST,
  VM_USED,
  VM_VALID_GEN,
  ZAPPED_OTHERS,
} from "../abi/shadow";
import { firstInChain } from "../pages/chain";
import { emit, tracing } from "../pages/event";
import { flushRemote } from "../pages/flush";
import { pageOfLink, previousOf } from "../pages/list";
import { gfnOf, hasGptes, isAboveGuest, isObsolete, roleOf } from "../pages/page";
import { commitZap, prepareZap, zapPage } from "../shadow/zap";
import { isTdpPage, tdpOf } from "../tdp/page";
import { invalidateRoots, putTdpRoot, zapInvalidRoots } from "../tdp/root";

/** Zaps every shadow page by generation: new roots are made, then the pages of the old generation are freed. */
export function zapAllFast(vm: usize): void {
  if (tracing(vm)) emit(vm, EV_ZAP_ALL_FAST, 0, load<u32>(vm, VM_VALID_GEN), load<u32>(vm, VM_USED), 0, 0, 0);
  store<u32>(vm, load<u32>(vm, VM_VALID_GEN) ^ 1, VM_VALID_GEN);
  const tdp = tdpOf(vm) != 0;
  if (tdp) invalidateRoots(vm);
  store<u32>(vm, load<u32>(vm, VM_ROOT_REQUEST) | 1, VM_ROOT_REQUEST);
  const head = vm + VM_ACTIVE;
  for (let link = previousOf(head); link != head;) {
    const sp = pageOfLink(link);
    // New pages are added at the front, so the first valid one from the back ends the search.
    if (!isObsolete(vm, sp)) break;
    link = previousOf(link);
    if (prepareZap(vm, sp) & ZAPPED_OTHERS) link = previousOf(head);
  }
  commitZap(vm);
  if (tdp) {
    zapInvalidRoots(vm);
    // The kernel leaves this to the next root's load, which flushes the vCPU.
    flushRemote(vm);
  }
}

/** Zaps the shadow pages of a guest table, so that the guest may write it; returns whether there was one. */
export function unprotectGfn(vm: usize, gfn: u64): bool {
  const first = firstInChain(vm, gfn);
  let found = false;
  for (let sp = first; sp != 0;) {
    const next: usize = load<u32>(sp, SP_CHAIN);
    if (gfnOf(sp) == gfn && !isObsolete(vm, sp) && hasGptes(sp)) {
      found = true;
      zapPage(vm, sp);
    }
    sp = next;
  }
  commitZap(vm);
  return found;
}

/**
 * Drops a reference to a root. Without references an invalid root is freed (by the commit that follows), and so is one
 * that stands above the guest's tables: those stay, and it is made again in no time.
 */
export function putRoot(vm: usize, sp: usize): void {
  if (isTdpPage(sp)) {
    putTdpRoot(vm, sp);
    return;
  }
  const count = load<u32>(sp, SP_ROOT_COUNT) - 1;
  store<u32>(sp, count, SP_ROOT_COUNT);
  if (count == 0 && ((roleOf(sp) & ROLE_INVALID) != 0 || isAboveGuest(sp))) zapPage(vm, sp);
}
