/** Walks of a guest's own tables, whichever context they go through. */
import { MMU_SECOND, VCPU_GW_CHECKED, VCPU_GW_NESTED } from "../abi/shadow";
import { walkL2 } from "./l2-walk";
import { walkTables } from "./table-walk";

/** `walkTables` in any context; that of a nested guest's own tables goes through L1's second stage. */
export function walkGuest(vcpu: usize, mmu: usize, gw: usize, address: u64, code: u32): bool {
  if (load<u32>(mmu, MMU_SECOND) == 0) return walkTables(vcpu, mmu, gw, address, code);
  store<u32>(gw, 0, VCPU_GW_NESTED);
  store<u32>(gw, 0, VCPU_GW_CHECKED);
  return walkL2(vcpu, mmu, address, code);
}
