/** What the host calls of the TDP MMU. Ranges are gfns of a memslot. */
import { SP_LINK, TDP_PAGES, TDP_POOL, TDP_POOL_COUNT, TDP_ROOTS } from "../abi/shadow";
import { listInit } from "../pages/list";
import { tdpOf } from "./page";

export function tdpInit(tdp: usize): void {
  listInit(tdp + TDP_ROOTS);
  listInit(tdp + TDP_PAGES);
}

/** Puts a header with its table into the pool. */
export function tdpFillPool(vm: usize, sp: usize): void {
  const tdp = tdpOf(vm);
  store<u32>(sp, load<u32>(tdp, TDP_POOL), SP_LINK);
  store<u32>(tdp, <u32>sp, TDP_POOL);
  store<u32>(tdp, load<u32>(tdp, TDP_POOL_COUNT) + 1, TDP_POOL_COUNT);
}
