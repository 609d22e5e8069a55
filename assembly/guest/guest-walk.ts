/** Walks of a guest's own tables, whichever context they go through. */
import { Mmu, Vcpu } from "../abi/records";
import { walkL2 } from "./l2-walk";
import { walkTables } from "./table-walk";

/** `walkTables` in any context; that of a nested guest's own tables goes through L1's second stage. */
export function walkGuest(vcpu: Vcpu, mmu: Mmu, gw: Vcpu, address: u64, code: u32): bool {
  if (mmu.second == null) return walkTables(vcpu, mmu, gw, address, code);
  gw.gwNested = 0;
  gw.gwChecked = 0;
  return walkL2(vcpu, mmu, address, code);
}
