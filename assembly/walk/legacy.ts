/**
 * The walk of legacy-format tables: 32-bit, PAE, 4-level and 5-level; for a guest's linear addresses and, as NPT, for
 * guest-physical ones. It reads and decides, and changes nothing: entries to update are left in the Work record.
 */
import {
  PDE4M_ADDRESS_HIGH,
  PDE4M_ADDRESS_HIGH_SHIFT,
  PFERR_GUEST_FINAL,
  PFERR_GUEST_PAGE,
  PFERR_P,
  PFERR_RSVD,
  PFERR_SS,
  PFERR_SSS,
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
  WALK_SHADOW_STACK,
  WALK_TRACE,
} from "../abi/codes";
import { Memory, Space, Work } from "../abi/records";
import { resolve, writable } from "../memory/resolve";
import { walkEpt } from "./ept";
import { denies, keyDenial } from "./permissions";
import { reservedBits } from "./reserved";
import { fail, failUnread, setGuestLeaf, setSecondLeaf, trace, wantUpdate } from "./result";
import { tableCode } from "./second-stage";
import { deniesStack, reportsStack, reportsStackLeaf, STACK_FLAGS } from "./shadow-stack";
import { applyUpdates } from "./updates";

/** Rights of a PAE PDPTE and of an address with paging off: everything. */
// @ts-ignore: decorator
@inline const ALL_RIGHTS: u32 = RIGHT_EXECUTE | RIGHT_WRITE | RIGHT_USER;

/**
 * Walks `address` in the format of `space`. `code` has the access in error-code bits 4:1, bit 3 meaning that SMAP does
 * not apply; `flags` are WALK_* bits. Returns a status. On STATUS_OK the Work record has the address that the tables
 * give (a guest's in `work.gpa`, not yet taken through a second stage), the rights and the leaf, and as updates every
 * entry whose accessed or dirty bit is clear and should be set; on a page fault those of the entries above the one at fault.
 */
export function walkLegacy(space: Space, work: Work, address: u64, code: u32, flags: u32): u32 {
  const mode = space.mode;
  const guest = space.kind == KIND_GUEST;
  let level = space.rootLevel;
  // Linear addresses were checked before they came here; a guest-physical one may be wider than NPT translates.
  if (!guest && address >> space.width != 0) {
    return pageFault(space, work, 0, address, code, flags, level, 0, 0);
  }
  if (mode == MODE_NONE) return found(guest, work, address, ALL_RIGHTS, 0, 0, 0);

  const stage: u32 = guest ? 0 : 1;
  const second = guest ? space.second : null;
  const memory = space.memory;
  const bytes: u32 = mode == MODE_32BIT ? 4 : 8;
  const indexBits: u64 = mode == MODE_32BIT ? 10 : 9;
  const addressMask = space.addressMask;
  const latched = (space.features & FEATURE_LIVE_PDPTES) == 0;
  const tableFlags = (flags & ~STACK_FLAGS) | WALK_GUEST_TABLE;
  let table = space.root;
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
      entry = space.pdptes(<u32>index);
    } else {
      if (second) {
        const status = walkSecondStage(second, work, entryAddress, tableCode(space, second), tableFlags);
        if (status) return status;
        hostAddress = work.secondPa;
      }
      pointer = resolve(memory, hostAddress);
      if (pointer >= NOT_READ) {
        // KVM's walk takes a table that no slot holds for a not-present entry.
        if (pointer == NO_MEMORY && (space.features & FEATURE_KVM) != 0) {
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
    const above = rights;
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
    const refused =
      flags & WALK_SHADOW_STACK ? deniesStack(space, code, flags, rights, above, entry) : denies(space, code, rights);
    if (denied || refused) {
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
  work: Work,
  memory: Memory,
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
@inline export function rightsOf(space: Space, entry: u64): u32 {
  const execute: u32 = (entry & space.xdMask) == 0 ? RIGHT_EXECUTE : 0;
  return ((<u32>entry) & ((<u32>PTE_RW) | (<u32>PTE_US))) | execute;
}

/** Whether an entry maps a page: at level 1 always (bit 7 is PAT there), above it where PS is set and means that. */
// @ts-ignore: decorator
@inline export function isLeaf(space: Space, level: u32, entry: u64): bool {
  if (level == 1) return true;
  return ((<u32>entry) & (<u32>PTE_PS)) != 0 && ((space.largeLevels >> level) & 1) != 0;
}

/** Physical address of the page that leaf `entry` maps; `offsetMask` covers the offset in the page. */
export function pageAddress(space: Space, level: u32, entry: u64, offsetMask: u64): u64 {
  const page = entry & space.addressMask & ~offsetMask;
  if (level != 2 || space.mode != MODE_32BIT) return page;
  return page | highAddress4M(space.features, entry);
}

/** PSE-36 (SDM "32-Bit Paging"): bits 39:32 of a 4 MiB page; KVM's walk takes 35:32, always (pse36_gfn_delta). */
function highAddress4M(features: u32, entry: u64): u64 {
  let kept: u64 = features & FEATURE_PSE36 ? 0xff : 0;
  if (features & FEATURE_KVM) kept = 0xf;
  return (((entry & (<u64>PDE4M_ADDRESS_HIGH)) >> (<u64>PDE4M_ADDRESS_HIGH_SHIFT)) & kept) << 32;
}

function found(guest: bool, work: Work, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): u32 {
  if (guest) setGuestLeaf(work, address, rights, level, entryAddress, entry);
  else setSecondLeaf(work, address, rights, level, entryAddress, entry);
  return STATUS_OK;
}

/**
 * A page fault: `cause` has the P, RSVD and PK bits, the access adds W, U, SS and, where the processor reports it, I/D.
 * As NPT it is a nested page fault whose bits 32 and 33 say on whose behalf (APM "Nested versus Guest Page Faults"), and bit 37
 * whether the leaf, which an entry whose rights are refused is, marks a supervisor shadow-stack page.
 */
function pageFault(
  space: Space,
  work: Work,
  cause: u32,
  address: u64,
  code: u32,
  flags: u32,
  level: u32,
  entryAddress: u64,
  entry: u64,
): u32 {
  const reported = PFERR_W | PFERR_U | space.fetchCode;
  const error: u64 = cause | (code & reported) | (reportsStack(space, flags) ? PFERR_SS : 0);
  if (space.kind == KIND_GUEST) {
    return fail(work, STATUS_PAGE_FAULT, error, address, 0, level, entryAddress, entry);
  }
  const behalf = flags & WALK_GUEST_TABLE ? PFERR_GUEST_PAGE : PFERR_GUEST_FINAL;
  const byRights = (cause & (PFERR_P | PFERR_RSVD)) == PFERR_P;
  const stackLeaf: u64 = byRights && reportsStackLeaf(space, entry) ? PFERR_SSS : 0;
  return fail(work, STATUS_NESTED_PAGE_FAULT, error | behalf | stackLeaf, address, 1, level, entryAddress, entry);
}

/**
 * Walks guest-physical `gpa` by EPT or NPT. On STATUS_OK the Work's `second` fields are set, and so are the accessed and
 * dirty bits of the entries used: this translation is complete, whatever becomes of the linear one (SDM "Accessed and Dirty
 * Flags for EPT": whenever the processor uses an entry). A trace sets nothing, and a probe wants nothing.
 */
export function walkGuestPhysical(second: Space, work: Work, gpa: u64, code: u32, flags: u32): u32 {
  const before = work.updateCount;
  while (true) {
    const status =
      second.kind == KIND_EPT ? walkEpt(second, work, gpa, code, flags) : walkLegacy(second, work, gpa, code, flags);
    const done = status != STATUS_OK || (flags & WALK_TRACE) != 0 || applyUpdates(work, before);
    // Only the guest's own updates stay on the list.
    work.updateCount = before;
    if (done) return status;
  }
}

/** The same on behalf of a linear address. */
export function walkSecondStage(second: Space, work: Work, gpa: u64, code: u32, flags: u32): u32 {
  return walkGuestPhysical(second, work, gpa, code, flags | WALK_LINEAR);
}
