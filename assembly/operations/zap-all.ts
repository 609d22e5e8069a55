/** Zapping for the host: every page at once, those of a guest table, a root that nobody holds any more. */
import { ShadowPage, Vm } from "../abi/records";
import { ROLE_INVALID } from "../abi/role";
import { EV_ZAP_ALL_FAST, ROOT_REQUEST_OBSOLETE, ZAPPED_OTHERS } from "../abi/shadow";
import { firstInChain } from "../pages/chain";
import { emit, tracing } from "../pages/event";
import { flushRemote } from "../pages/flush";
import { pageOfLink } from "../pages/list";
import { hasGptes, isAboveGuest, isObsolete } from "../pages/page";
import { commitZap, prepareZap, zapPage } from "../shadow/zap";
import { hasTdp, isTdpPage } from "../tdp/page";
import { invalidateRoots, putTdpRoot, zapInvalidRoots } from "../tdp/root";

/** Zaps every shadow page by generation: new roots are made, then the pages of the old generation are freed. */
export function zapAllFast(vm: Vm): void {
  if (tracing(vm)) emit(vm, EV_ZAP_ALL_FAST, 0, vm.validGen, vm.used, 0, 0, 0);
  vm.validGen = 1 - vm.validGen;
  const tdp = hasTdp(vm);
  if (tdp) invalidateRoots(vm);
  vm.rootRequest |= ROOT_REQUEST_OBSOLETE;
  const head = vm.active;
  for (let link = head.previous; link != head;) {
    const sp = pageOfLink(link);
    // New pages are added at the front, so the first valid one from the back ends the search.
    if (!isObsolete(vm, sp)) break;
    link = link.previous;
    if (prepareZap(vm, sp) & ZAPPED_OTHERS) link = head.previous;
  }
  commitZap(vm);
  if (tdp) {
    zapInvalidRoots(vm);
    // The kernel leaves this to the next root's load, which flushes the vCPU.
    flushRemote(vm);
  }
}

/** Zaps the shadow pages of a guest table, so that the guest may write it; returns whether there was one. */
export function unprotectGfn(vm: Vm, gfn: u64): bool {
  const first = firstInChain(vm, gfn);
  let found = false;
  for (let sp = first; sp != null;) {
    const next = sp.chain;
    if (sp.gfn == gfn && !isObsolete(vm, sp) && hasGptes(sp)) {
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
export function putRoot(vm: Vm, sp: ShadowPage): void {
  if (isTdpPage(sp)) {
    putTdpRoot(vm, sp);
    return;
  }
  const count = sp.rootCount - 1;
  sp.rootCount = count;
  if (count == 0 && ((sp.role & ROLE_INVALID) != 0 || isAboveGuest(sp))) zapPage(vm, sp);
}
