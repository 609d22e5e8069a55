/** A page fault from the guest (kvm_mmu_page_fault and what it calls, arch/x86/kvm/mmu/mmu.c and paging_tmpl.h). */
import { PFERR_I, PFERR_P, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import { Memslot, Vcpu, Vm } from "../abi/records";
import { ROLE_DIRECT, ROLE_LEVEL } from "../abi/role";
import {
  ATTEND,
  EV_FAST_PAGE_FAULT,
  FAULT_DESCS,
  FAULT_TDP_PAGES,
  HOST_PRESENT,
  HOST_WRITABLE,
  KERNEL_RULE_NO_SELF_CHANGE,
  MMU_SMEP,
  MMU_WP,
  NEED_HOST_PAGE,
  NEED_STOCK,
  NO_SPACE,
  RET_PF_CONTINUE,
  RET_PF_EMULATE,
  RET_PF_FIXED,
  RET_PF_INJECT,
  RET_PF_INVALID,
  RET_PF_RETRY,
  RET_PF_SPURIOUS,
  RET_PF_WRITE_PROTECTED,
  ROOT_REQUEST_OBSOLETE,
  STAGE_HOST_PAGE,
  STAGE_START,
  TOO_WIDE,
} from "../abi/shadow";
import {
  ACC_ALL,
  ACC_EXEC,
  ACC_USER,
  ACC_WRITE,
  PFN_NO_SLOT,
  PFN_READ_ONLY,
  SPTE_ADDRESS,
  SPTE_P,
  SPTE_W,
} from "../abi/spte";
import { walkGuest } from "../guest/guest-walk";
import { aliasRights, gfnOfAddress } from "../pages/alias";
import { emit, tracing } from "../pages/event";
import { nextEntry, rootEntry } from "../pages/iterator";
import { cacheMmioInfo } from "../pages/mmio-info";
import { isObsolete, levelOf, pageOf, spteAddress } from "../pages/page";
import { hostPage, isHidden, isInvalid, isReadOnly, isTracked, logsWrites, markDirty, vcpuSlot } from "../pages/slot";
import { writeProtected } from "../shadow/leaf";
import { makeRoom } from "../shadow/page-limit";
import { checkedLeaf } from "../spte/check";
import { restoreAccess } from "../spte/make";
import { isAccessTracked, isExecutable, isLast, isMmuWritable, isPresent, isWritable } from "../spte/predicates";
import { isTdpPage } from "../tdp/page";
import { fetch, fetchResume, mapDirect } from "./fetch";
import { mapTdp } from "./map";
import { mmioFault } from "./mmio";
import { quickFault } from "./quick-fault";

// @ts-ignore: decorator
@inline export function isDirect(vcpu: Vcpu): bool {
  return (vcpu.mmu.rootRole & ROLE_DIRECT) != 0;
}

/** A write to a write-tracked page, which only emulation can do. */
function writesTracked(vcpu: Vcpu): bool {
  const error = vcpu.fError;
  if ((error & PFERR_RSVD) != 0 || (error & (PFERR_P | PFERR_W)) != (PFERR_P | PFERR_W)) return false;
  return isTracked(vcpu.vm, vcpu.fSlot, vcpu.fGfn);
}

function clearFlood(vcpu: Vcpu): void {
  const vm = vcpu.vm;
  const address = vcpu.fAddress;
  const root = vcpu.mmu.root;
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    pageOf(vm, sptep).flood = 0;
  }
}

/**
 * Does the access write one of the tables that translate it, or could it once a large page is mapped?
 * Then the mapping is made of small pages at once.
 */
function selfChanging(vcpu: Vcpu): bool {
  const access = vcpu.gwPteAccess;
  const wp = (vcpu.mmu.flags & MMU_WP) != 0;
  const user = (vcpu.fError & PFERR_U) != 0;
  if ((access & ACC_WRITE) == 0 && (wp || user)) return false;
  const first = vcpu.gwLevel;
  const mask = ~(((<u64>1) << (9 * ((first - 1) as u64))) - 1);
  let found = false;
  for (let level = first; level <= vcpu.gwMaxLevel; level++) {
    const table = vcpu.gwTableGfn(level - 1);
    if (((vcpu.gwGfn ^ table) & mask) == 0) found = true;
  }
  return found;
}

function accessAllowed(vm: Vm, error: u32, spte: u64): bool {
  if (error & PFERR_I) return isExecutable(vm, spte);
  if (error & PFERR_W) return isWritable(spte);
  return (spte & SPTE_P) != 0;
}

/**
 * A write that only dirty logging forbids, or an access that only access tracking noticed, is fixed in place.
 * Only in direct contexts: elsewhere an SPTE's gfn may change.
 */
function fastFault(vcpu: Vcpu): u32 {
  const vm = vcpu.vm;
  const error = vcpu.fError;
  const adBits = vm.accessed != 0;
  if (error & PFERR_RSVD) return RET_PF_INVALID;
  if (error & PFERR_P ? (error & PFERR_W) == 0 : adBits) return RET_PF_INVALID;
  const address = vcpu.fAddress;
  const root = vcpu.mmu.root;
  let level = levelOf(root);
  let sptep = rootEntry(root, address);
  for (;;) {
    const next = nextEntry(sptep, address, level);
    if (next == 0) break;
    sptep = next;
    level--;
  }
  const spte = load<u64>(sptep);
  let result = RET_PF_INVALID;
  if (isPresent(spte) && isLast(spte, level)) {
    const slot = vcpu.fSlot;
    if (accessAllowed(vm, error, spte)) result = RET_PF_SPURIOUS;
    else {
      let fixed = spte;
      if (!adBits && isAccessTracked(vm, spte)) fixed = restoreAccess(vm, spte);
      let logged = false;
      if (error & PFERR_W && isMmuWritable(vm, spte)) {
        fixed |= SPTE_W;
        // Only the first page of a large one would be logged; the slow path splits it.
        logged = level > 1 && slot != null && logsWrites(slot);
      }
      if (!logged && fixed != spte && accessAllowed(vm, error, fixed)) {
        store<u64>(sptep, checkedLeaf(vm, fixed));
        if (isWritable(fixed) && !isWritable(spte)) markDirty(slot, vcpu.fGfn);
        result = RET_PF_FIXED;
      }
    }
  }
  if (tracing(vm)) {
    const place = spteAddress(vm, sptep);
    const outcome = result | ((<u32>(place >> 32)) << 8);
    emit(vm, EV_FAST_PAGE_FAULT, error, outcome, <u32>place, address, spte, load<u64>(sptep));
  }
  return result;
}

/** Finds the host page; RET_PF_CONTINUE, NEED_HOST_PAGE, or an end of the fault. */
function findHostPage(vcpu: Vcpu, answered: bool): u32 {
  const vm = vcpu.vm;
  const slot = vcpu.fSlot;
  const write = (vcpu.fError & PFERR_W) != 0;
  if (slot == null) {
    vcpu.fPfn = PFN_NO_SLOT;
    vcpu.fMapWritable = 0;
    return RET_PF_CONTINUE;
  }
  // The slot is being deleted or moved: its SPTEs are zapped before an MMIO SPTE may be made.
  if (isInvalid(slot)) return RET_PF_RETRY;
  if (write && isReadOnly(slot)) {
    vcpu.fPfn = PFN_READ_ONLY;
    vcpu.fMapWritable = 0;
    return RET_PF_CONTINUE;
  }
  const page = load<u64>(hostPage(slot, vcpu.fGfn));
  const ask = vm.askHost != 0 && !answered;
  if (ask || !(page & HOST_PRESENT) || (write && !(page & HOST_WRITABLE))) {
    vcpu.fStage = STAGE_HOST_PAGE;
    return NEED_HOST_PAGE;
  }
  vcpu.fPfn = page & SPTE_ADDRESS;
  vcpu.fMapWritable = page & HOST_WRITABLE && !isReadOnly(slot) ? 1 : 0;
  return RET_PF_CONTINUE;
}

/** The root or a part of it was zapped, or the host changed its mapping while the page was looked up. */
function isStale(vcpu: Vcpu): bool {
  const vm = vcpu.vm;
  const root = vcpu.mmu.root;
  if (isObsolete(vm, root) || root.gap != 0) return true;
  const slot = vcpu.fSlot;
  if (slot == null) return false;
  if (vm.invalidateInProgress != 0) {
    const gfn = vcpu.fGfn;
    const hva = slot.hva + ((gfn - slot.base) << 12);
    if (hva >= vm.invalidateStart && hva < vm.invalidateEnd) return true;
  }
  return vm.invalidateSeq != vcpu.fSeq;
}

/** From the host page on. */
function mapFault(vcpu: Vcpu, answered: bool): u32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const direct = isDirect(vcpu);
  const error = vcpu.fError;
  const found = findHostPage(vcpu, answered);
  if (found != RET_PF_CONTINUE) return found;
  if (vcpu.fPfn == PFN_READ_ONLY) return RET_PF_EMULATE;
  const access = direct ? ACC_ALL : vcpu.gwPteAccess;
  if (vcpu.fSlot == null) {
    const gva = direct && vm.tdp != 0 ? 0 : vcpu.fAddress;
    cacheMmioInfo(vcpu, gva, vcpu.fGfn, access & (<u32>vm.mmioAccess));
    if (vm.mmioCaching == 0 || vcpu.fGfn > vm.maxGfn) {
      return RET_PF_EMULATE;
    }
  } else if (
    !direct &&
    (error & (PFERR_W | PFERR_U)) == PFERR_W &&
    (access & ACC_WRITE) == 0 &&
    (mmu.flags & MMU_WP) == 0
  ) {
    // CR0.WP=0: the supervisor writes a read-only page. The SPTE becomes a supervisor's writable one, without
    // execution where SMEP would forbid it to the supervisor; the next user access makes it read-only again.
    let changed = (access | ACC_WRITE) & ~ACC_USER;
    if (mmu.flags & MMU_SMEP) changed &= ~ACC_EXEC;
    vcpu.gwPteAccess = changed;
  }
  if (isTdpPage(mmu.root)) return isStale(vcpu) ? RET_PF_RETRY : mapTdp(vcpu);
  if (!makeRoom(vm)) return NO_SPACE;
  if (isStale(vcpu)) return RET_PF_RETRY;
  return direct ? mapDirect(vcpu) : fetch(vcpu, answered);
}

/** The slot of a fault at L1's address `gpa`. An alias of a page that is the VM's own leads nowhere. */
function visibleSlot(vcpu: Vcpu, gpa: u64, gfn: u64): Memslot | null {
  const slot = vcpuSlot(vcpu, gfn);
  return isHidden(slot, gfn ^ (gpa >> 12)) ? null : slot;
}

/** Reads or writes through an alias that only grants execution. */
function violatesAlias(vcpu: Vcpu, address: u64, error: u32): bool {
  const vm = vcpu.vm;
  // An EPT misconfiguration (an MMIO SPTE of before the slot was there) says nothing about the access: it is made again.
  if (error & (PFERR_I | PFERR_RSVD) || aliasRights(vm, address >> 12) == ACC_ALL) return false;
  vcpu.gwError = error | PFERR_P;
  return true;
}

function startFault(vcpu: Vcpu): u32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const address = vcpu.fAddress;
  const error = vcpu.fError;
  const direct = isDirect(vcpu);
  vcpu.fReqLevel = 1;
  vcpu.fGoalLevel = 1;
  if (!direct && !walkGuest(vcpu, mmu, vcpu, address, error & ~PFERR_RSVD)) return RET_PF_INJECT;
  const gfn = direct ? gfnOfAddress(vm, address) : vcpu.gwGfn;
  vcpu.fGfn = gfn;
  const slot = visibleSlot(vcpu, direct ? address : vcpu.gwGpa, gfn);
  vcpu.fSlot = slot;
  if (direct && slot != null && violatesAlias(vcpu, address, error)) return RET_PF_INJECT;
  if (writesTracked(vcpu)) {
    if (!direct) clearFlood(vcpu);
    return writeProtected(vm);
  }
  if (direct) {
    const fast = fastFault(vcpu);
    if (fast != RET_PF_INVALID) return fast;
    // Without paging the tables are PAE ones: 2 MiB pages at most.
    vcpu.fMaxLevel = vm.tdp != 0 ? 3 : 2;
  } else {
    const level = vcpu.gwLevel;
    const asks = level > 1 && (vm.rules & KERNEL_RULE_NO_SELF_CHANGE) == 0;
    vcpu.fMaxLevel = asks && selfChanging(vcpu) ? 1 : level;
  }
  vcpu.fSeq = vm.invalidateSeq;
  return mapFault(vcpu, false);
}

function finish(vcpu: Vcpu, result: u32): u32 {
  const vm = vcpu.vm;
  if (result == RET_PF_FIXED) vm.pfFixed++;
  else if (vcpu.fPrefetch == 0) {
    if (result == RET_PF_EMULATE || result == RET_PF_WRITE_PROTECTED) vm.pfEmulate++;
    else if (result == RET_PF_SPURIOUS) vm.pfSpurious++;
  }
  return result >= NEED_HOST_PAGE ? result : withAttention(vm, result);
}

// @ts-ignore: decorator
@inline function withAttention(vm: Vm, result: u32): u32 {
  const attend = (<u32>(vm.freed != null)) | vm.rootRequest | vm.eventCount;
  return attend != 0 ? result | ATTEND : result;
}

/** Nothing is allocated half-way: the caches hold whatever one fault may take. */
// @ts-ignore: decorator
@inline function isStocked(vm: Vm): bool {
  if (vm.descCount < FAULT_DESCS) return false;
  const tdp = vm.tdpMmu;
  return tdp == null || tdp.poolCount >= FAULT_TDP_PAGES;
}

/**
 * For an address that 32 bits do not hold: TOO_WIDE where it is linear and the guest is not in long mode; RET_PF_EMULATE
 * where it is guest-physical and lies beyond the host's MAXPHYADDR or what the root translates, so that its entries would
 * be those of another address (handle_abnormal_pfn asks for the former); else RET_PF_CONTINUE. Behind L1's second stage
 * the walk of that decides.
 */
function checkReach(vcpu: Vcpu, address: u64): u32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  if (vm.tdp == 0) return mmu.guestLevel < 4 ? TOO_WIDE : RET_PF_CONTINUE;
  if (!isDirect(vcpu)) return RET_PF_CONTINUE;
  const level = mmu.rootRole & ROLE_LEVEL;
  // A root of three levels has four entries.
  const width: u64 = level == 3 ? 32 : 12 + 9 * <u64>level;
  const beyond = address >> width != 0 || gfnOfAddress(vm, address) > vm.maxGfn;
  return beyond ? RET_PF_EMULATE : RET_PF_CONTINUE;
}

/**
 * The root table lies in no slot: whatever the guest accesses faults. Where a slot has come to be there meanwhile the dummy
 * root is given up, and the access made again.
 */
function dummyFault(vcpu: Vcpu): u32 {
  const vm = vcpu.vm;
  const error = vcpu.fError;
  if (error & PFERR_RSVD) return RET_PF_RETRY;
  if (vcpu.fPrefetch == 0) vm.pfTaken++;
  if (!walkGuest(vcpu, vcpu.mmu, vcpu, vcpu.fAddress, error)) return RET_PF_INJECT;
  vm.rootRequest |= ROOT_REQUEST_OBSOLETE;
  return RET_PF_RETRY;
}

/** The fault that `fAddress`, `fError` and `fPrefetch` describe, from its beginning. */
function begin(vcpu: Vcpu): u32 {
  const vm = vcpu.vm;
  const address = vcpu.fAddress;
  if (address >> 32 != 0) {
    const reach = checkReach(vcpu, address);
    if (reach == RET_PF_EMULATE) return withAttention(vm, reach);
    if (reach != RET_PF_CONTINUE) return reach;
  }
  if (!isStocked(vm)) {
    vcpu.fStage = STAGE_START;
    return NEED_STOCK;
  }
  if (vcpu.mmu.root == null) return withAttention(vm, vcpu.mmu.dummy != 0 ? dummyFault(vcpu) : RET_PF_RETRY);
  const error = vcpu.fError;
  if (error & PFERR_RSVD) {
    const result = mmioFault(vcpu, address, isDirect(vcpu));
    if (result != RET_PF_INVALID) return vm.eventCount != 0 ? result | ATTEND : result;
  }
  if (vcpu.fPrefetch == 0) vm.pfTaken++;
  return finish(vcpu, startFault(vcpu));
}

/**
 * Handles a fault at `address`; `error` is a page-fault error code. Returns a RET_PF code, perhaps with ATTEND, or a NEED
 * code, after which the host provides and calls `faultResume`.
 */
export function fault(vcpu: Vcpu, address: u64, error: u32, prefetch: u32): u32 {
  const vm = vcpu.vm;
  if (((error & PFERR_RSVD) | prefetch) == 0 && isStocked(vm)) {
    const quick = quickFault(vcpu, vm, address, error);
    if (quick != RET_PF_INVALID) {
      vm.pfTaken++;
      if (quick == RET_PF_FIXED) vm.pfFixed++;
      else vm.pfSpurious++;
      return withAttention(vm, quick);
    }
  }
  vcpu.fAddress = address;
  vcpu.fError = error;
  vcpu.fPrefetch = prefetch;
  return begin(vcpu);
}

/** Goes on after NEED_STOCK, NEED_HOST_PAGE (the slot's host page is set) or NEED_PAGE (`reqPage` is set). */
export function faultResume(vcpu: Vcpu): u32 {
  const stage = vcpu.fStage;
  if (stage == STAGE_START) return begin(vcpu);
  return finish(vcpu, stage == STAGE_HOST_PAGE ? mapFault(vcpu, true) : fetchResume(vcpu, !isDirect(vcpu)));
}

/**
 * Faults at `addresses` (u64), from number `first` on, with one error code. Results (u32) are a RET_PF code, for
 * RET_PF_INJECT with the error code above bit 7. Stops where the host has something to do or a fault has to be retried:
 * returns that fault's number, its code as result; else `count`.
 */
export function faultBatch(vcpu: Vcpu, addresses: usize, results: usize, first: u32, count: u32, error: u32): u32 {
  for (let i = first; i < count; i++) {
    const code = fault(vcpu, load<u64>(addresses + ((<usize>i) << 3)), error, 0);
    const injected = code == RET_PF_INJECT ? vcpu.gwError << 8 : 0;
    store<u32>(results + ((<usize>i) << 2), code | injected);
    if (code >= RET_PF_WRITE_PROTECTED || code == RET_PF_RETRY) return i;
  }
  return count;
}
