/** Pages of the TDP MMU: no rmap, no hash, no limit. They come from a pool that the host fills before an operation. */
import { ShadowPage, Tdp, Vm } from "../abi/records";
import { EV_GET_PAGE, TDP_PAGE_OWN } from "../abi/shadow";
import { aliasBits, lowOfAlias, plainGfn } from "../pages/alias";
import { emitPage } from "../pages/event";
import { listDelete, nextFree, setNextFree } from "../pages/list";
import { clearTable } from "../pages/page";

/** Direct roots are the TDP MMU's. */
// @ts-ignore: decorator
@inline export function hasTdp(vm: Vm): bool {
  return vm.tdpMmu != null;
}

/** The VM's Tdp record, where it has one. */
// @ts-ignore: decorator
@inline export function tdpOf(vm: Vm): Tdp {
  return vm.tdpMmu!;
}

// @ts-ignore: decorator
@inline export function isTdpPage(sp: ShadowPage): bool {
  return sp.tdp != 0;
}

/**
 * A page from the pool, which the host has filled, for gfns from `gfn` on, which has the alias bits of their addresses;
 * `sptep` is the entry that will lead to it. On no list yet.
 */
export function takePage(vm: Vm, gfn: u64, role: u32, sptep: usize): ShadowPage {
  const tdp = tdpOf(vm);
  const sp = tdp.pool!;
  const table = sp.spt;
  tdp.pool = nextFree(sp);
  tdp.poolCount--;
  tdp.pageCount++;
  memory.fill(changetype<usize>(sp), 0, ShadowPage.SIZE);
  clearTable(table, vm.empty);
  sp.spt = table;
  sp.gfn = plainGfn(vm, gfn);
  sp.low = lowOfAlias(aliasBits(vm, gfn));
  sp.role = role;
  sp.sptep = sptep;
  sp.tdp = TDP_PAGE_OWN;
  emitPage(vm, EV_GET_PAGE, sp, 1);
  return sp;
}

/** Takes a page from its list and gives it back to the pool. */
export function freePage(vm: Vm, sp: ShadowPage): void {
  const tdp = tdpOf(vm);
  listDelete(sp.link);
  tdp.pageCount--;
  setNextFree(sp, tdp.pool);
  tdp.pool = sp;
  tdp.poolCount++;
}
