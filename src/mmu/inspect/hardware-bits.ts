/** Acting as the processor on a VM's tables. */
import { roleIsGuestMode, roleLevel, roleSmm } from "../../role/index.js";
import type { Machine } from "../machine/machine.js";
import type { ShadowPage } from "./snapshot.js";

/** Sets accessed or dirty bits in an SPTE, as the processor does; where it logs dirty pages, the log gets the page. */
export function setHardwareBits(vm: Machine, page: ShadowPage, index: number, bits: bigint): void {
  const { pages, vm: record } = vm.core;
  const old = pages.spte(page.pointer, index);
  pages.setSpte(page.pointer, index, old | bits);
  const dirtied = (bits & ~old & record.dirty) !== 0n;
  // A nested guest runs without the log, because its addresses are not L1's.
  const logged = vm.pageModificationLog && !roleIsGuestMode(page.role) && roleLevel(page.role) === 1;
  if (dirtied && logged) vm.guest.markDirty(page.gfn + BigInt(index), roleSmm(page.role));
}
