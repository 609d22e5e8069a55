/** Huge pages that the NX-huge-page mitigation forbade come back where no code runs any more (kvm_recover_nx_lpages). */
import { Link, ShadowPage, Vm } from "../abi/records";
import { KERNEL_RULE_RECOVER_UNLOGGED } from "../abi/shadow";
import { flushRemote } from "../pages/flush";
import { pageOfLink } from "../pages/list";
import { spaceOf } from "../pages/page";
import { findSlot, logsWrites } from "../pages/slot";
import { commitZap, zapPage } from "../shadow/zap";
import { recoverTable } from "../tdp/huge";
import { isTdpPage } from "../tdp/page";

/** The page of a list that was noted first, if it was before `found`. */
function earliest(head: Link, found: ShadowPage | null): ShadowPage | null {
  for (let link = head.next; link != head; link = link.next) {
    const sp = pageOfLink(link);
    const order = sp.noHuge;
    if (order != 0 && (found == null || order < found.noHuge)) found = sp;
  }
  return found;
}

/** A huge page would not come back: writes are logged by small ones. */
function isLogged(vm: Vm, sp: ShadowPage): bool {
  const slot = findSlot(vm, spaceOf(sp), sp.gfn);
  return slot != null && logsWrites(slot);
}

/** Gives up to `count` such pages up, of either kind; the next fault makes the page large again. Returns how many there were. */
export function recoverHuge(vm: Vm, count: u32): u32 {
  const tdp = vm.tdpMmu;
  let done: u32 = 0;
  let flush = false;
  for (; done < count; done++) {
    let sp = earliest(vm.active, null);
    if (tdp != null) sp = earliest(tdp.pages, sp);
    if (sp == null) break;
    // The pages below it may go as well.
    if ((vm.rules & KERNEL_RULE_RECOVER_UNLOGGED) != 0 && isLogged(vm, sp)) {
      sp.noHuge = 0;
      sp.forbidden = 0;
    } else if (isTdpPage(sp)) {
      recoverTable(vm, sp);
      flush = true;
    } else zapPage(vm, sp);
  }
  if (flush) flushRemote(vm);
  commitZap(vm);
  return done;
}
