/** Loading the four PAE PDPTEs, as MOV to CR3, CR0 and CR4 do (SDM "PDPTE Registers"). */
import { PTE_P } from "../abi/bits";
import { NOT_READ, STATUS_OK, STATUS_PAGE_FAULT, WALK_GUEST_TABLE, WALK_PROBE } from "../abi/codes";
import { Space } from "../abi/records";
import { resolve } from "../memory/resolve";
import { walkGuestPhysical } from "./legacy";
import { reservedBits } from "./reserved";
import { fail, failUnread } from "./result";
import { pdpteCode } from "./second-stage";

/**
 * Latches the PDPTEs at the root of `space`. Returns STATUS_OK, the status of a second-stage or memory failure, or
 * STATUS_PAGE_FAULT where a present PDPTE has reserved bits set (the processor raises #GP there, not #PF). Latches
 * nothing unless all four are good.
 */
export function loadPdptes(space: Space): u32 {
  const work = space.work;
  for (let pass = 0; pass < 2; pass++) {
    for (let index: u32 = 0; index < 4; index++) {
      const entryAddress = space.root + (index << 3);
      let hostAddress = entryAddress;
      const second = space.second;
      if (second) {
        // No linear address is behind it (SDM "Exit Qualification for EPT Violations", bit 7).
        const flags = WALK_PROBE | WALK_GUEST_TABLE;
        const status = walkGuestPhysical(second, work, entryAddress, pdpteCode(space, second), flags);
        if (status != STATUS_OK) return status;
        hostAddress = work.secondPa;
      }
      const pointer = resolve(space.memory, hostAddress);
      if (pointer >= NOT_READ) return failUnread(work, pointer, hostAddress, entryAddress, 0, 3, entryAddress);
      const entry = load<u64>(pointer);
      if (pass == 0) {
        const status = checkPdpte(space, index, entryAddress, entry);
        if (status != STATUS_OK) return status;
      } else {
        space.setPdptes(index, entry);
      }
    }
  }
  return STATUS_OK;
}

/** Checks four values that were given instead of read: STATUS_OK, or STATUS_PAGE_FAULT as in `loadPdptes`. */
export function checkPdptes(space: Space): u32 {
  for (let index: u32 = 0; index < 4; index++) {
    const at = space.root + (index << 3);
    const status = checkPdpte(space, index, at, space.pdptes(index));
    if (status != STATUS_OK) return status;
  }
  return STATUS_OK;
}

function checkPdpte(space: Space, index: u32, entryAddress: u64, entry: u64): u32 {
  if (!(entry & PTE_P) || !(entry & reservedBits(space, 3, entry))) return STATUS_OK;
  return fail(space.work, STATUS_PAGE_FAULT, 0, index, 0, 3, entryAddress, entry);
}
