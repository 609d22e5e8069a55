/** Pages of the TDP MMU: no rmap, no hash, no limit. They come from a pool that the host fills before an operation. */
import {
  EV_GET_PAGE,
  SP_LINK,
  SP_GFN,
  SP_LOW,
  SP_ROLE,
  SP_SIZE_OF,
  SP_SPT,
  SP_SPTEP,
  SP_TDP,
  TDP_PAGE_COUNT,
  TDP_POOL,
  TDP_POOL_COUNT,
  VM_TDP_MMU,
} from "../abi/shadow";
import { aliasBits, lowOfAlias, plainGfn } from "../pages/alias";
import { emitPage } from "../pages/event";
import { linkOf, listDelete } from "../pages/list";

/** SP_TDP: the page belongs to the TDP MMU. */
// @ts-ignore: decorator
@inline export const TDP_PAGE: u32 = 1;
/** SP_TDP: an invalid root whose entries have not been zapped yet. */
// @ts-ignore: decorator
@inline export const TDP_ZAP_SCHEDULED: u32 = 2;

/** The VM's TDP record, 0 where direct roots are classic ones. */
// @ts-ignore: decorator
@inline export function tdpOf(vm: usize): usize {
  return load<u32>(vm, VM_TDP_MMU);
}

// @ts-ignore: decorator
@inline export function isTdpPage(sp: usize): bool {
  return load<u32>(sp, SP_TDP) != 0;
}

/**
 * A page from the pool, which the host has filled, for gfns from `gfn` on, which has the alias bits of their addresses;
 * `sptep` is the entry that will lead to it. On no list yet.
 */
export function takePage(vm: usize, gfn: u64, role: u32, sptep: usize): usize {
  const tdp = tdpOf(vm);
  const sp: usize = load<u32>(tdp, TDP_POOL);
  const table: usize = load<u32>(sp, SP_SPT);
  store<u32>(tdp, load<u32>(sp, SP_LINK), TDP_POOL);
  store<u32>(tdp, load<u32>(tdp, TDP_POOL_COUNT) - 1, TDP_POOL_COUNT);
  store<u32>(tdp, load<u32>(tdp, TDP_PAGE_COUNT) + 1, TDP_PAGE_COUNT);
  memory.fill(sp, 0, SP_SIZE_OF);
  memory.fill(table, 0, 4096);
  store<u32>(sp, <u32>table, SP_SPT);
  store<u64>(sp, plainGfn(vm, gfn), SP_GFN);
  store<u32>(sp, lowOfAlias(aliasBits(vm, gfn)), SP_LOW);
  store<u32>(sp, role, SP_ROLE);
  store<u32>(sp, <u32>sptep, SP_SPTEP);
  store<u32>(sp, TDP_PAGE, SP_TDP);
  emitPage(vm, EV_GET_PAGE, sp, 1);
  return sp;
}

/** Takes a page from its list and gives it back to the pool. */
export function freePage(vm: usize, sp: usize): void {
  const tdp = tdpOf(vm);
  listDelete(linkOf(sp));
  store<u32>(tdp, load<u32>(tdp, TDP_PAGE_COUNT) - 1, TDP_PAGE_COUNT);
  store<u32>(sp, load<u32>(tdp, TDP_POOL), SP_LINK);
  store<u32>(tdp, <u32>sp, TDP_POOL);
  store<u32>(tdp, load<u32>(tdp, TDP_POOL_COUNT) + 1, TDP_POOL_COUNT);
}
