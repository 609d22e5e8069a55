/** Huge pages that the NX-huge-page mitigation forbade come back where no code runs any more (kvm_recover_nx_lpages). */
import { SP_NO_HUGE, TDP_PAGES, VM_ACTIVE } from "../abi/shadow";
import { flushRemote } from "../pages/flush";
import { nextOf, pageOfLink } from "../pages/list";
import { commitZap, zapPage } from "../shadow/zap";
import { recoverTable } from "../tdp/huge";
import { isTdpPage, tdpOf } from "../tdp/page";

/** The page of a list that was noted first, if it was before `found`. */
function earliest(head: usize, found: usize): usize {
  for (let link = nextOf(head); link != head; link = nextOf(link)) {
    const sp = pageOfLink(link);
    const order = load<u32>(sp, SP_NO_HUGE);
    if (order != 0 && (found == 0 || order < load<u32>(found, SP_NO_HUGE))) found = sp;
  }
  return found;
}

/** Gives up to `count` such pages up, of either kind; the next fault makes the page large again. Returns how many there were. */
export function recoverHuge(vm: usize, count: u32): u32 {
  const tdp = tdpOf(vm);
  let done: u32 = 0;
  let flush = false;
  for (; done < count; done++) {
    let sp = earliest(vm + VM_ACTIVE, 0);
    if (tdp != 0) sp = earliest(tdp + TDP_PAGES, sp);
    if (sp == 0) break;
    // The pages below it may go as well.
    if (isTdpPage(sp)) {
      recoverTable(vm, sp);
      flush = true;
    } else zapPage(vm, sp);
  }
  if (flush) flushRemote(vm);
  commitZap(vm);
  return done;
}
