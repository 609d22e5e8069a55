/** The second stage of a two-dimensional walk: which access it sees, and for whom. */
import { EPTP_AD, PFERR_I, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import {
  FEATURE_KVM, KIND_EPT, RIGHT_USER, STATUS_OK, WALK_GUEST_TABLE, WALK_LINEAR, WALK_TRACE,
} from "../abi/codes";
import {
  SPACE_CR3, SPACE_FEATURES, SPACE_KIND, UPDATE_ADDRESS, UPDATE_SIZE_OF, WORK_UPDATES, WORK_UPDATE_COUNT,
} from "../abi/layout";
import { walkEpt } from "./ept";
import { walkLegacy } from "./legacy";
import { applyUpdates } from "./updates";

/**
 * Walks guest-physical `gpa` by EPT or NPT. On STATUS_OK WORK_SECOND_* are set, and so are the accessed and dirty bits of
 * the entries used: this translation is complete, whatever becomes of the linear one (SDM "Accessed and Dirty Flags for
 * EPT": whenever the processor uses an entry). A trace sets nothing, and a probe wants nothing.
 */
export function walkGuestPhysical(second: usize, work: usize, gpa: u64, code: u32, flags: u32): u32 {
  const before = load<u32>(work, WORK_UPDATE_COUNT);
  while (true) {
    const status = load<u32>(second, SPACE_KIND) == KIND_EPT
      ? walkEpt(second, work, gpa, code, flags)
      : walkLegacy(second, work, gpa, code, flags);
    const done = status != STATUS_OK || (flags & WALK_TRACE) != 0 || applyUpdates(work, before);
    // Only the guest's own updates stay on the list.
    store<u32>(work, before, WORK_UPDATE_COUNT);
    if (done) return status;
  }
}

/** The same on behalf of a linear address. */
export function walkSecondStage(second: usize, work: usize, gpa: u64, code: u32, flags: u32): u32 {
  return walkGuestPhysical(second, work, gpa, code, flags | WALK_LINEAR);
}

/**
 * The access that reading a guest's table is to the second stage: under NPT a user write (APM "Nested Paging"), under
 * EPT a read, and also a write with EPT's accessed and dirty flags (SDM "Accessed and Dirty Flags for EPT"). KVM's own
 * walk always asks for both.
 */
// @ts-ignore: decorator
@inline export function tableCode(space: usize, second: usize): u32 {
  return writesTables(space, second) ? <u32>PFERR_U | <u32>PFERR_W : <u32>PFERR_U;
}

/**
 * The same for loading the PDPTE registers, which stays a read to EPT whatever its accessed and dirty flags (SDM
 * "Accessed and Dirty Flags for EPT"); KVM's load_pdptrs asks for both.
 */
export function pdpteCode(space: usize, second: usize): u32 {
  const kvm = (load<u32>(space, SPACE_FEATURES) & FEATURE_KVM) != 0;
  const write = kvm || load<u32>(second, SPACE_KIND) != KIND_EPT;
  return write ? <u32>PFERR_U | <u32>PFERR_W : <u32>PFERR_U;
}

// @ts-ignore: decorator
@inline function writesTables(space: usize, second: usize): bool {
  if (load<u32>(second, SPACE_KIND) != KIND_EPT) return true;
  if (load<u32>(space, SPACE_FEATURES) & FEATURE_KVM) return true;
  return (load<u64>(second, SPACE_CR3) & <u64>EPTP_AD) != 0;
}

/**
 * The access that the translated address gets. Under NPT every access is a user one. Under EPT the user position means
 * a data read and the RSVD position a user-mode linear address, one whose guest `rights` allow user accesses (all, with
 * paging off). KVM's own walk adds the user position to every access (translate_nested_gpa).
 */
// @ts-ignore: decorator
@inline export function finalCode(space: usize, second: usize, code: u32, rights: u32): u32 {
  const access = code & (<u32>PFERR_W | <u32>PFERR_I);
  if (load<u32>(second, SPACE_KIND) != KIND_EPT) return access | <u32>PFERR_U;
  const userAddress = rights & RIGHT_USER ? <u32>PFERR_RSVD : 0;
  const read = access == 0 || (load<u32>(space, SPACE_FEATURES) & FEATURE_KVM) != 0 ? <u32>PFERR_U : 0;
  return access | userAddress | read;
}

/**
 * Where reading a guest's table was no write to the second stage, setting an accessed or dirty bit in it is one of its
 * own, a read and a write (SDM "EPT Violations"). Checked from the root down once the guest's own rights are known to
 * suffice, so that a guest page fault comes first. A probe wants no such bit.
 */
export function checkTableWrites(space: usize, second: usize, work: usize, flags: u32): u32 {
  if (writesTables(space, second)) return STATUS_OK;
  const count = load<u32>(work, WORK_UPDATE_COUNT);
  for (let i: u32 = 0; i < count; i++) {
    const code = <u32>PFERR_U | <u32>PFERR_W;
    const address = load<u64>(work + WORK_UPDATES + i * UPDATE_SIZE_OF, UPDATE_ADDRESS);
    const status = walkSecondStage(second, work, address, code, (flags & ~WALK_TRACE) | WALK_GUEST_TABLE);
    if (status) return status;
  }
  return STATUS_OK;
}
