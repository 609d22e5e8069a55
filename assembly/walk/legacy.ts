/**
 * The walk of legacy-format tables: 32-bit, PAE, 4-level and 5-level; for a guest's linear addresses and, as NPT, for
 * guest-physical ones. It reads and decides, and changes nothing: entries to update are left in the WORK record.
 */
import {
  PDE4M_ADDRESS_HIGH,
  PDE4M_ADDRESS_HIGH_SHIFT,
  PFERR_GUEST_FINAL,
  PFERR_GUEST_PAGE,
  PFERR_P,
  PFERR_RSVD,
  PFERR_U,
  PFERR_W,
  PTE_A,
  PTE_D,
  PTE_P,
  PTE_PKEY,
  PTE_PKEY_SHIFT,
  PTE_PS,
  PTE_RW,
  PTE_US,
} from "../abi/bits";
import {
  FEATURE_KVM,
  FEATURE_LIVE_PDPTES,
  FEATURE_PSE36,
  KIND_EPT,
  KIND_GUEST,
  MODE_32BIT,
  MODE_NONE,
  MODE_PAE,
  NOT_READ,
  NO_MEMORY,
  RIGHT_EXECUTE,
  RIGHT_USER,
  RIGHT_WRITE,
  STATUS_NESTED_PAGE_FAULT,
  STATUS_OK,
  STATUS_PAGE_FAULT,
  WALK_GUEST_TABLE,
  WALK_LINEAR,
  WALK_PROBE,
  WALK_TRACE,
} from "../abi/codes";
import {
  SPACE_ADDRESS_MASK,
  SPACE_FEATURES,
  SPACE_FETCH_CODE,
  SPACE_KIND,
  SPACE_LARGE_LEVELS,
  SPACE_MEMORY,
  SPACE_MODE,
  SPACE_PDPTES,
  SPACE_ROOT,
  SPACE_ROOT_LEVEL,
  SPACE_SECOND,
  SPACE_WIDTH,
  SPACE_XD_MASK,
  WORK_SECOND_PA,
  WORK_UPDATE_COUNT,
} from "../abi/layout";
import { resolve, writable } from "../memory/resolve";
import { walkEpt } from "./ept";
import { denies, keyDenial } from "./permissions";
import { reservedBits } from "./reserved";
import { fail, failUnread, setGuestLeaf, setSecondLeaf, trace, wantUpdate } from "./result";
import { tableCode } from "./second-stage";
import { applyUpdates } from "./updates";

/** Rights of a PAE PDPTE and of an address with paging off: everything. */
// @ts-ignore: decorator
@inline const ALL_RIGHTS: u32 = RIGHT_EXECUTE | RIGHT_WRITE | RIGHT_USER;

/**
 * Walks `address` in the format of `space`. `code` has the access in error-code bits 4:1, bit 3 meaning that SMAP does
 * not apply; `flags` are WALK_* bits. Returns a status. On STATUS_OK the WORK record has the address that the tables
 * give (a guest's in WORK_GPA, not yet taken through a second stage), the rights and the leaf, and as updates every
 * entry whose accessed or dirty bit is clear and should be set; on a page fault those of the entries above the one at fault.
 */
export function walkLegacy(space: usize, work: usize, address: u64, code: u32, flags: u32): u32 {
  const mode = load<u32>(space, SPACE_MODE);
  const guest = load<u32>(space, SPACE_KIND) == KIND_GUEST;
  let level = load<u32>(space, SPACE_ROOT_LEVEL);
  // Linear addresses were checked before they came here; a guest-physical one may be wider than NPT translates.
  if (!guest && address >> load<u32>(space, SPACE_WIDTH) != 0) {
    return pageFault(space, work, 0, address, code, flags, level, 0, 0);
  }
  if (mode == MODE_NONE) return found(guest, work, address, ALL_RIGHTS, 0, 0, 0);

  const stage: u32 = guest ? 0 : 1;
  const second = guest ? load<u32>(space, SPACE_SECOND) : 0;
  const memory = load<u32>(space, SPACE_MEMORY);
  const bytes: u32 = mode == MODE_32BIT ? 4 : 8;
  const indexBits: u64 = mode == MODE_32BIT ? 10 : 9;
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const latched = (load<u32>(space, SPACE_FEATURES) & FEATURE_LIVE_PDPTES) == 0;
  let table = load<u64>(space, SPACE_ROOT);
  let rights = ALL_RIGHTS;

  while (true) {
    const shift: u64 = 12 + <u64>(level - 1) * indexBits;
    const index = (address >> shift) & ((1 << indexBits) - 1);
    const entryAddress = table + index * bytes;
    const pdpte = mode == MODE_PAE && level == 3;
    let hostAddress = entryAddress;
    let pointer: u32 = 0;
    let entry: u64;

    if (pdpte && latched) {
      entry = load<u64>(space + <usize>(index << 3), SPACE_PDPTES);
    } else {
      if (second) {
        const status = walkSecondStage(second, work, entryAddress, tableCode(space, second), flags | WALK_GUEST_TABLE);
        if (status) return status;
        hostAddress = load<u64>(work, WORK_SECOND_PA);
      }
      pointer = resolve(memory, hostAddress);
      if (pointer >= NOT_READ) {
        // KVM's walk takes a table that no slot holds for a not-present entry.
        if (pointer == NO_MEMORY && (load<u32>(space, SPACE_FEATURES) & FEATURE_KVM) != 0) {
          return pageFault(space, work, 0, address, code, flags, level, entryAddress, 0);
        }
        return failUnread(work, pointer, hostAddress, address, stage, level, entryAddress);
      }
      entry = bytes == 4 ? <u64>load<u32>(pointer) : load<u64>(pointer);
    }
    if (flags & WALK_TRACE) trace(work, stage, level, entryAddress, entry);

    if (!(entry & PTE_P)) return pageFault(space, work, 0, address, code, flags, level, entryAddress, entry);
    if (entry & reservedBits(space, level, entry)) {
      const reserved = PFERR_P | PFERR_RSVD;
      return pageFault(space, work, reserved, address, code, flags, level, entryAddress, entry);
    }
    if (pdpte) {
      // No rights and no accessed bit (SDM "PDPTE Registers").
      table = entry & addressMask;
      level = 2;
      continue;
    }
    rights &= rightsOf(space, entry);

    const leaf = isLeaf(space, level, entry);
    if (!leaf) {
      want(work, memory, flags, hostAddress, pointer, bytes, entryAddress, entry, PTE_A);
      table = entry & addressMask;
      level--;
      continue;
    }

    // Outside long mode no key denies anything, whatever an entry has there.
    const key = <u32>((entry & PTE_PKEY) >> PTE_PKEY_SHIFT);
    const denied = keyDenial(space, code, rights, key);
    if (denied || denies(space, code, rights)) {
      return pageFault(space, work, PFERR_P | denied, address, code, flags, level, entryAddress, entry);
    }
    const used: u64 = (code & PFERR_W) != 0 ? PTE_A | PTE_D : PTE_A;
    want(work, memory, flags, hostAddress, pointer, bytes, entryAddress, entry, used);
    const offsetMask: u64 = ((<u64>1) << shift) - 1;
    const page = pageAddress(space, level, entry, offsetMask);
    return found(guest, work, page | (address & offsetMask), rights, level, entryAddress, entry);
  }
}

/** Notes that the entry's `bits` are to be set: a probe wants none. */
function want(
  work: usize,
  memory: u32,
  flags: u32,
  hostAddress: u64,
  pointer: u32,
  bytes: u32,
  entryAddress: u64,
  entry: u64,
  bits: u64,
): void {
  if (flags & WALK_PROBE || (entry & bits) == bits) return;
  wantUpdate(work, writable(memory, hostAddress, pointer), bytes, entryAddress, entry, entry | bits);
}

/** Rights of one entry; XD counts only where EFER.NXE makes it mean no-execute. */
// @ts-ignore: decorator
@inline export function rightsOf(space: usize, entry: u64): u32 {
  const execute: u32 = (entry & load<u64>(space, SPACE_XD_MASK)) == 0 ? RIGHT_EXECUTE : 0;
  return ((<u32>entry) & ((<u32>PTE_RW) | (<u32>PTE_US))) | execute;
}

/** Whether an entry maps a page: at level 1 always (bit 7 is PAT there), above it where PS is set and means that. */
// @ts-ignore: decorator
@inline export function isLeaf(space: usize, level: u32, entry: u64): bool {
  if (level == 1) return true;
  return ((<u32>entry) & (<u32>PTE_PS)) != 0 && ((load<u32>(space, SPACE_LARGE_LEVELS) >> level) & 1) != 0;
}

/** Physical address of the page that leaf `entry` maps; `offsetMask` covers the offset in the page. */
export function pageAddress(space: usize, level: u32, entry: u64, offsetMask: u64): u64 {
  const page = entry & load<u64>(space, SPACE_ADDRESS_MASK) & ~offsetMask;
  if (level != 2 || load<u32>(space, SPACE_MODE) != MODE_32BIT) return page;
  return page | highAddress4M(load<u32>(space, SPACE_FEATURES), entry);
}

/** PSE-36 (SDM "32-Bit Paging"): bits 39:32 of a 4 MiB page; KVM's walk takes 35:32, always (pse36_gfn_delta). */
function highAddress4M(features: u32, entry: u64): u64 {
  let kept: u64 = features & FEATURE_PSE36 ? 0xff : 0;
  if (features & FEATURE_KVM) kept = 0xf;
  return (((entry & (<u64>PDE4M_ADDRESS_HIGH)) >> (<u64>PDE4M_ADDRESS_HIGH_SHIFT)) & kept) << 32;
}

function found(guest: bool, work: usize, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): u32 {
  if (guest) setGuestLeaf(work, address, rights, level, entryAddress, entry);
  else setSecondLeaf(work, address, rights, level, entryAddress, entry);
  return STATUS_OK;
}

/**
 * A page fault: `cause` has the P, RSVD and PK bits, the access adds W, U and, where the processor reports it, I/D.
 * As NPT it is a nested page fault whose bits 32 and 33 say on whose behalf (APM "Nested versus Guest Page Faults").
 */
function pageFault(
  space: usize,
  work: usize,
  cause: u32,
  address: u64,
  code: u32,
  flags: u32,
  level: u32,
  entryAddress: u64,
  entry: u64,
): u32 {
  const reported = PFERR_W | PFERR_U | load<u32>(space, SPACE_FETCH_CODE);
  const error: u64 = cause | (code & reported);
  if (load<u32>(space, SPACE_KIND) == KIND_GUEST) {
    return fail(work, STATUS_PAGE_FAULT, error, address, 0, level, entryAddress, entry);
  }
  const behalf = flags & WALK_GUEST_TABLE ? PFERR_GUEST_PAGE : PFERR_GUEST_FINAL;
  return fail(work, STATUS_NESTED_PAGE_FAULT, error | behalf, address, 1, level, entryAddress, entry);
}

/**
 * Walks guest-physical `gpa` by EPT or NPT. On STATUS_OK WORK_SECOND_* are set, and so are the accessed and dirty bits of
 * the entries used: this translation is complete, whatever becomes of the linear one (SDM "Accessed and Dirty Flags for
 * EPT": whenever the processor uses an entry). A trace sets nothing, and a probe wants nothing.
 */
export function walkGuestPhysical(second: usize, work: usize, gpa: u64, code: u32, flags: u32): u32 {
  const before = load<u32>(work, WORK_UPDATE_COUNT);
  while (true) {
    const status =
      load<u32>(second, SPACE_KIND) == KIND_EPT
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
