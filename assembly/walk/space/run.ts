/** The full walk of one access: masking, canonical check, the walk or walks, accessed and dirty bits. */
import {
  ACCESS_FETCH,
  ACCESS_IMPLICIT,
  ACCESS_PROBE,
  ACCESS_WRITE,
  PFERR_RSVD,
  PFERR_U,
  PFERR_W,
} from "../../abi/bits";
import {
  FEATURE_ACCESSED_ON_FAULT,
  KIND_EPT,
  KIND_GUEST,
  STATUS_NON_CANONICAL,
  STATUS_OK,
  STATUS_PAGE_FAULT,
  STATUS_SPACE_SEPARATION,
  WALK_GUEST_TABLE,
  WALK_PROBE,
  WALK_TRACE,
} from "../../abi/codes";
import { Space, Work } from "../../abi/records";
import { guestCode } from "../access";
import { walkEpt } from "../ept";
import { walkLegacy, walkSecondStage } from "../legacy";
import { isCanonical, linearOf, violatesSeparation } from "../linear";
import { fail, promoteSecondLeaf } from "../result";
import { finalCode, nestedMode, writesTables } from "../second-stage";
import { STACK_FLAGS, stackFlags } from "../shadow-stack";
import { dropFaulted, enterWork } from "../tlb/tlb";
import { applyUpdates } from "../updates";

/**
 * The access by the full walk: a status; the details are in the Work record. What it finds replaces what the software
 * TLB has for the address.
 */
export function run(space: Space, address: u64, access: u32, flags: u32): u32 {
  const work = space.work;
  if (access & ACCESS_PROBE) flags |= WALK_PROBE;
  if (access & ACCESS_IMPLICIT) flags |= stackFlags(space, access);
  while (true) {
    work.updateCount = 0;
    const status =
      space.kind == KIND_GUEST
        ? runGuest(space, work, address, access, flags)
        : runSecond(space, work, address, access, flags);
    const settles = status == STATUS_OK || (status == STATUS_PAGE_FAULT && setsAccessedOnFault(space));
    if (!settles || flags & WALK_TRACE || work.updateCount == 0 || applyUpdates(work, 0)) {
      if (space.tlb != 0) noteInTlb(space, work, address, access, status, flags);
      return status;
    }
  }
}

/** A page fault leaves the accessed flag in the entries above the one at fault. */
// @ts-ignore: decorator
@inline function setsAccessedOnFault(space: Space): bool {
  return (space.features & FEATURE_ACCESSED_ON_FAULT) != 0;
}

/** Probes, and walks that only show what is there, leave the TLB alone. */
function noteInTlb(space: Space, work: Work, address: u64, access: u32, status: u32, flags: u32): void {
  if (flags & (WALK_PROBE | WALK_TRACE)) return;
  const linear = linearOf(space, address, access);
  if (status == STATUS_OK) enterWork(space, work, linear);
  else if (status != STATUS_NON_CANONICAL && status != STATUS_SPACE_SEPARATION) dropFaulted(space, linear);
}

function runGuest(space: Space, work: Work, address: u64, access: u32, flags: u32): u32 {
  if (violatesSeparation(space, address, access)) return fail(work, STATUS_SPACE_SEPARATION, 0, address, 0, 0, 0, 0);
  const linear = linearOf(space, address, access);
  if (!isCanonical(space, linear)) return fail(work, STATUS_NON_CANONICAL, 0, address, 0, 0, 0, 0);

  const code = guestCode(access);
  let status = walkLegacy(space, work, linear, code, flags);
  const second = space.second;
  if (status != STATUS_OK) {
    if (second == null || status != STATUS_PAGE_FAULT || !setsAccessedOnFault(space)) return status;
    // Setting the flags comes before the fault, and may be refused.
    const refused = checkTableWrites(space, second, work, flags);
    return refused == STATUS_OK ? status : refused;
  }
  if (!second) return STATUS_OK;
  status = checkTableWrites(space, second, work, flags);
  if (status != STATUS_OK) return status;
  const gpa = work.gpa;
  status = walkSecondStage(second, work, gpa, finalCode(space, second, code, work.rights), flags);
  if (status == STATUS_OK) work.pa = work.secondPa;
  return status;
}

/** A guest-physical address given directly: EPT takes reads as its U position, NPT sees the final access of a guest. */
function runSecond(space: Space, work: Work, gpa: u64, access: u32, flags: u32): u32 {
  const kind = access & (ACCESS_WRITE | ACCESS_FETCH);
  let status: u32;
  if (space.kind == KIND_EPT) {
    const read = kind == 0 ? PFERR_U : 0;
    const userAddress = guestCode(access) & PFERR_U ? PFERR_RSVD : 0;
    status = walkEpt(space, work, gpa, kind | read | userAddress, flags);
  } else {
    status = walkLegacy(space, work, gpa, kind | nestedMode(space, guestCode(access)), flags);
  }
  if (status == STATUS_OK) promoteSecondLeaf(work);
  return status;
}

/**
 * Where reading a guest's table was no write to the second stage, setting an accessed or dirty bit in it is one of its
 * own, a read and a write (SDM "EPT Violations"). Checked from the root down once the guest's own rights are known to
 * suffice, so that a guest page fault comes first. A probe wants no such bit.
 */
export function checkTableWrites(space: Space, second: Space, work: Work, flags: u32): u32 {
  if (writesTables(space, second)) return STATUS_OK;
  const tableFlags = (flags & ~(WALK_TRACE | STACK_FLAGS)) | WALK_GUEST_TABLE;
  const count = work.updateCount;
  for (let i: u32 = 0; i < count; i++) {
    const code = PFERR_U | PFERR_W;
    const address = work.updates(i).address;
    const status = walkSecondStage(second, work, address, code, tableFlags);
    if (status) return status;
  }
  return STATUS_OK;
}
