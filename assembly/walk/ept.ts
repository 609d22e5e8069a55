/** The walk of extended page tables (SDM "The Extended Page Table Mechanism"). Like the legacy walk it changes nothing. */
import {
  EPTP_AD,
  EPTP_SSS,
  EPT_A,
  EPT_D,
  EPT_MEMTYPE,
  EPT_MEMTYPE_SHIFT,
  EPT_PS,
  EPT_QUAL_EXECUTABLE,
  EPT_QUAL_FETCH,
  EPT_QUAL_GVA_FINAL,
  EPT_QUAL_GVA_VALID,
  EPT_QUAL_READ,
  EPT_QUAL_READABLE,
  EPT_QUAL_SHADOW_STACK,
  EPT_QUAL_SSS,
  EPT_QUAL_USER_ADDRESS,
  EPT_QUAL_USER_EXECUTABLE,
  EPT_QUAL_WRITABLE,
  EPT_QUAL_WRITABLE_PAGE,
  EPT_QUAL_WRITE,
  EPT_QUAL_XD_PAGE,
  EPT_R,
  EPT_SSS,
  EPT_W,
  EPT_X,
  EPT_XU,
  MEMORY_TYPE_UC,
  MEMORY_TYPE_WB,
  MEMORY_TYPE_WC,
  MEMORY_TYPE_WP,
  MEMORY_TYPE_WT,
  PFERR_I,
  PFERR_U,
  PFERR_W,
} from "../abi/bits";
import {
  FEATURE_ADVANCED_EXIT,
  FEATURE_EXECUTE_ONLY,
  FEATURE_KVM,
  FEATURE_MODE_BASED_EXECUTE,
  NOT_READ,
  NO_MEMORY,
  RIGHT_EXECUTE,
  RIGHT_USER,
  RIGHT_USER_EXECUTE,
  RIGHT_WRITE,
  STATUS_EPT_MISCONFIGURATION,
  STATUS_EPT_VIOLATION,
  STATUS_OK,
  WALK_GUEST_TABLE,
  WALK_LINEAR,
  WALK_PROBE,
  WALK_SUPERVISOR_STACK,
  WALK_TRACE,
} from "../abi/codes";
import { Space, Work } from "../abi/records";
import { resolve, writable } from "../memory/resolve";
import { denies } from "./permissions";
import { reservedBits } from "./reserved";
import { fail, failUnread, setSecondLeaf, trace, wantUpdate } from "./result";
import { isEptStackPage, reportsStack } from "./shadow-stack";

/** One bit a type (SDM "EPT Misconfigurations"). */
// @ts-ignore: decorator
@inline const MEMORY_TYPES: u32 = MEMORY_TYPE_UC | MEMORY_TYPE_WC | MEMORY_TYPE_WT | MEMORY_TYPE_WP | MEMORY_TYPE_WB;

/**
 * Walks guest-physical `gpa`. In `code` bit 2 (U) is a data read, bit 1 a write, bit 4 a fetch and bit 3 says that the
 * linear address is a user-mode one; `flags` are WALK_* bits. Returns a status; on STATUS_OK the Work's `second` fields are set.
 */
export function walkEpt(space: Space, work: Work, gpa: u64, code: u32, flags: u32): u32 {
  let level = space.rootLevel;
  if (gpa >> space.width != 0) return violation(space, work, 0, gpa, code, flags, level, 0, 0);

  const features = space.features;
  const memory = space.memory;
  const accessedDirty = (space.cr3 & (<u64>EPTP_AD)) != 0;
  let table = space.root;
  let rights: u32 = RIGHT_EXECUTE | RIGHT_WRITE | RIGHT_USER | RIGHT_USER_EXECUTE;

  while (true) {
    const shift: u64 = 12 + <u64>(level - 1) * 9;
    const entryAddress = table + (((gpa >> shift) & 511) << 3);
    const pointer = resolve(memory, entryAddress);
    if (pointer >= NOT_READ) {
      // As in the legacy walk: KVM takes such a table for a not-present entry.
      if (pointer == NO_MEMORY && (features & FEATURE_KVM) != 0) {
        return violation(space, work, 0, gpa, code, flags, level, entryAddress, 0);
      }
      return failUnread(work, pointer, entryAddress, gpa, 1, level, entryAddress);
    }
    const entry = load<u64>(pointer);
    if (flags & WALK_TRACE) trace(work, 1, level, entryAddress, entry);

    if (!isEptPresent(features, entry)) return violation(space, work, 0, gpa, code, flags, level, entryAddress, entry);
    const leaf = isEptLeaf(space, level, entry);
    if (isMisconfigured(space, features, level, leaf, entry)) {
      return fail(work, STATUS_EPT_MISCONFIGURATION, 0, gpa, 1, level, entryAddress, entry);
    }
    const above = rights;
    rights &= eptRightsOf(features, entry);

    if (accessedDirty && !(flags & WALK_PROBE)) {
      const wanted = entry | EPT_A | (leaf && (code & PFERR_W) != 0 ? EPT_D : 0);
      if (wanted != entry) {
        wantUpdate(work, writable(memory, entryAddress, pointer), 8, entryAddress, entry, wanted);
      }
    }
    if (!leaf) {
      table = entry & space.addressMask;
      level--;
      continue;
    }
    const controlled = flags & WALK_SUPERVISOR_STACK && (space.cr3 & (<u64>EPTP_SSS)) != 0;
    if (controlled ? !isEptStackPage(rights, above, entry) : denies(space, code, rights)) {
      const status = violation(space, work, rights, gpa, code, flags, level, entryAddress, entry);
      // The entry maps a page, so what it marks is reported.
      if (entry & EPT_SSS && (space.cr3 & (<u64>EPTP_SSS)) != 0) work.code |= EPT_QUAL_SSS;
      return status;
    }
    const offsetMask: u64 = ((<u64>1) << shift) - 1;
    const page = entry & space.addressMask & ~offsetMask;
    setSecondLeaf(work, page | (gpa & offsetMask), rights, level, entryAddress, entry);
    return STATUS_OK;
  }
}

/** Present means any of R, W and X, or with mode-based execute control bit 10. */
// @ts-ignore: decorator
@inline export function isEptPresent(features: u32, entry: u64): bool {
  const present = EPT_R | EPT_W | EPT_X | (features & FEATURE_MODE_BASED_EXECUTE ? EPT_XU : 0);
  return (entry & present) != 0;
}

// @ts-ignore: decorator
@inline export function isEptLeaf(space: Space, level: u32, entry: u64): bool {
  return level == 1 || ((entry & EPT_PS) != 0 && ((space.largeLevels >> level) & 1) != 0);
}

/** Rights of one entry; without mode-based execute control X is also the user-mode right. */
export function eptRightsOf(features: u32, entry: u64): u32 {
  const userExecute = features & FEATURE_MODE_BASED_EXECUTE ? (entry & EPT_XU) != 0 : (entry & EPT_X) != 0;
  return (
    (entry & EPT_R ? RIGHT_USER : 0) |
    (entry & EPT_W ? RIGHT_WRITE : 0) |
    (entry & EPT_X ? RIGHT_EXECUTE : 0) |
    (userExecute ? RIGHT_USER_EXECUTE : 0)
  );
}

/** SDM "EPT Misconfigurations", for a present entry: reserved bits, write without read, execute-only, memory type. */
export function isMisconfigured(space: Space, features: u32, level: u32, leaf: bool, entry: u64): bool {
  if (entry & reservedBits(space, level, entry)) return true;
  if (!(entry & EPT_R)) {
    // Execute-only counts bit 10 too; whatever is present without R and W is executable.
    if (entry & EPT_W || !(features & FEATURE_EXECUTE_ONLY)) return true;
  }
  const memoryType = <u32>((entry & EPT_MEMTYPE) >> EPT_MEMTYPE_SHIFT);
  return leaf && ((MEMORY_TYPES >> memoryType) & 1) == 0;
}

/** An EPT violation with its exit qualification; `rights` are those of all entries used, 0 where one was not present. */
function violation(
  space: Space,
  work: Work,
  rights: u32,
  gpa: u64,
  code: u32,
  flags: u32,
  level: u32,
  entryAddress: u64,
  entry: u64,
): u32 {
  let qualification: u32 = 0;
  if (code & PFERR_U) qualification |= EPT_QUAL_READ;
  if (code & PFERR_W) qualification |= EPT_QUAL_WRITE;
  if (code & PFERR_I) qualification |= EPT_QUAL_FETCH;
  if (rights & RIGHT_USER) qualification |= EPT_QUAL_READABLE;
  if (rights & RIGHT_WRITE) qualification |= EPT_QUAL_WRITABLE;
  if (rights & RIGHT_EXECUTE) qualification |= EPT_QUAL_EXECUTABLE;
  if (space.features & FEATURE_MODE_BASED_EXECUTE && rights & RIGHT_USER_EXECUTE) {
    qualification |= EPT_QUAL_USER_EXECUTABLE;
  }
  if (flags & WALK_LINEAR) {
    qualification |= EPT_QUAL_GVA_VALID;
    if (!(flags & WALK_GUEST_TABLE)) {
      qualification |= EPT_QUAL_GVA_FINAL;
      if (space.features & FEATURE_ADVANCED_EXIT) qualification |= guestQualification(work.rights);
    }
  }
  if (reportsStack(space, flags)) qualification |= EPT_QUAL_SHADOW_STACK;
  return fail(work, STATUS_EPT_VIOLATION, qualification, gpa, 1, level, entryAddress, entry);
}

/** Advanced VM-exit information: what the guest's paging allows, whose walk has left its rights. */
function guestQualification(rights: u32): u32 {
  return (
    (rights & RIGHT_USER ? EPT_QUAL_USER_ADDRESS : 0) |
    (rights & RIGHT_WRITE ? EPT_QUAL_WRITABLE_PAGE : 0) |
    (rights & RIGHT_EXECUTE ? 0 : EPT_QUAL_XD_PAGE)
  );
}
