/** What the host calls of the TDP MMU. Ranges are gfns of a memslot. */
import { ShadowPage, Tdp, Vm } from "../abi/records";
import { listInit, setNextFree } from "../pages/list";
import { tdpOf } from "./page";

export function tdpInit(tdp: Tdp): void {
  listInit(tdp.roots);
  listInit(tdp.pages);
}

/** Puts a header with its table into the pool. */
export function tdpFillPool(vm: Vm, sp: ShadowPage): void {
  const tdp = tdpOf(vm);
  setNextFree(sp, tdp.pool);
  tdp.pool = sp;
  tdp.poolCount++;
}
