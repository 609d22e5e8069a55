/** The walk of extended page tables (SDM "The Extended Page Table Mechanism"). Like the legacy walk it changes nothing. */
import {
  EPTP_AD,
  EPT_A,
  EPT_D,
  EPT_MEMTYPE,
  EPT_MEMTYPE_SHIFT,
  EPT_PS,
  EPT_QUAL_FETCH,
  EPT_QUAL_GVA_FINAL,
  EPT_QUAL_GVA_VALID,
  EPT_QUAL_READ,
  EPT_QUAL_READABLE,
  EPT_QUAL_USER_EXECUTABLE,
  EPT_QUAL_WRITABLE,
  EPT_QUAL_WRITE,
  EPT_QUAL_EXECUTABLE,
  EPT_R,
  EPT_W,
  EPT_X,
  EPT_XU,
  PFERR_I,
  PFERR_U,
  PFERR_W,
} from "../abi/bits";
import {
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
  WALK_TRACE,
} from "../abi/codes";
import {
  SPACE_ADDRESS_MASK,
  SPACE_CR3,
  SPACE_FEATURES,
  SPACE_LARGE_LEVELS,
  SPACE_MEMORY,
  SPACE_ROOT,
  SPACE_ROOT_LEVEL,
  SPACE_WIDTH,
} from "../abi/layout";
import { resolve, writable } from "../memory/resolve";
import { denies } from "./permissions";
import { reservedBits } from "./reserved";
import { fail, failUnread, setSecondLeaf, trace, wantUpdate } from "./result";

/** Memory types 2, 3 and 7 do not exist (SDM "EPT Misconfigurations"): one bit a type. */
// @ts-ignore: decorator
@inline const BAD_MEMORY_TYPES: u32 = (1 << 2) | (1 << 3) | (1 << 7);

/**
 * Walks guest-physical `gpa`. In `code` bit 2 (U) is a data read, bit 1 a write, bit 4 a fetch and bit 3 says that the
 * linear address is a user-mode one; `flags` are WALK_* bits. Returns a status; on STATUS_OK WORK_SECOND_* are set.
 */
export function walkEpt(space: usize, work: usize, gpa: u64, code: u32, flags: u32): u32 {
  let level = load<u32>(space, SPACE_ROOT_LEVEL);
  if (gpa >> load<u32>(space, SPACE_WIDTH) != 0) return violation(space, work, 0, gpa, code, flags, level, 0, 0);

  const features = load<u32>(space, SPACE_FEATURES);
  const memory = load<u32>(space, SPACE_MEMORY);
  const accessedDirty = (load<u64>(space, SPACE_CR3) & (<u64>EPTP_AD)) != 0;
  let table = load<u64>(space, SPACE_ROOT);
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
    rights &= eptRightsOf(features, entry);

    if (accessedDirty && !(flags & WALK_PROBE)) {
      const wanted = entry | EPT_A | (leaf && (code & PFERR_W) != 0 ? EPT_D : 0);
      if (wanted != entry) {
        wantUpdate(work, writable(memory, entryAddress, pointer), 8, entryAddress, entry, wanted);
      }
    }
    if (!leaf) {
      table = entry & load<u64>(space, SPACE_ADDRESS_MASK);
      level--;
      continue;
    }
    if (denies(space, code, rights))
      return violation(space, work, rights, gpa, code, flags, level, entryAddress, entry);
    const offsetMask: u64 = ((<u64>1) << shift) - 1;
    const page = entry & load<u64>(space, SPACE_ADDRESS_MASK) & ~offsetMask;
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
@inline export function isEptLeaf(space: usize, level: u32, entry: u64): bool {
  return level == 1 || ((entry & EPT_PS) != 0 && ((load<u32>(space, SPACE_LARGE_LEVELS) >> level) & 1) != 0);
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
export function isMisconfigured(space: usize, features: u32, level: u32, leaf: bool, entry: u64): bool {
  if (entry & reservedBits(space, level, entry)) return true;
  if (!(entry & EPT_R)) {
    // Execute-only counts bit 10 too; whatever is present without R and W is executable.
    if (entry & EPT_W || !(features & FEATURE_EXECUTE_ONLY)) return true;
  }
  const memoryType = <u32>((entry & EPT_MEMTYPE) >> EPT_MEMTYPE_SHIFT);
  return leaf && ((BAD_MEMORY_TYPES >> memoryType) & 1) != 0;
}

/** An EPT violation with its exit qualification; `rights` are those of all entries used, 0 where one was not present. */
function violation(
  space: usize,
  work: usize,
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
  if (load<u32>(space, SPACE_FEATURES) & FEATURE_MODE_BASED_EXECUTE && rights & RIGHT_USER_EXECUTE) {
    qualification |= EPT_QUAL_USER_EXECUTABLE;
  }
  if (flags & WALK_LINEAR) {
    qualification |= EPT_QUAL_GVA_VALID;
    if (!(flags & WALK_GUEST_TABLE)) qualification |= EPT_QUAL_GVA_FINAL;
  }
  return fail(work, STATUS_EPT_VIOLATION, qualification, gpa, 1, level, entryAddress, entry);
}
