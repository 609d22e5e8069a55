/** A page fault from the guest (kvm_mmu_page_fault and what it calls, arch/x86/kvm/mmu/mmu.c and paging_tmpl.h). */
import { PFERR_I, PFERR_P, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import { ROLE_DIRECT, ROLE_LEVEL } from "../abi/role";
import {
  ATTEND,
  EV_FAST_PAGE_FAULT,
  FAULT_DESCS,
  FAULT_TDP_PAGES,
  HOST_PRESENT,
  HOST_WRITABLE,
  MEMSLOT_BASE,
  MEMSLOT_HVA,
  MMU_FLAGS,
  MMU_GUEST_LEVEL,
  MMU_ROOT,
  MMU_ROOT_ROLE,
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
  SP_FLOOD,
  SP_GAP,
  STAGE_HOST_PAGE,
  STAGE_START,
  TDP_POOL_COUNT,
  TOO_WIDE,
  VCPU_F_ADDRESS,
  VCPU_F_ERROR,
  VCPU_F_GFN,
  VCPU_F_GOAL_LEVEL,
  VCPU_F_MAP_WRITABLE,
  VCPU_F_MAX_LEVEL,
  VCPU_F_PFN,
  VCPU_F_PREFETCH,
  VCPU_F_REQ_LEVEL,
  VCPU_F_SEQ,
  VCPU_F_SLOT,
  VCPU_F_STAGE,
  VCPU_GW_ERROR,
  VCPU_GW_GFN,
  VCPU_GW_GPA,
  VCPU_GW_LEVEL,
  VCPU_GW_MAX_LEVEL,
  VCPU_GW_PTE_ACCESS,
  VCPU_GW_TABLE_GFN,
  VCPU_MMU,
  VCPU_VM,
  VM_ACCESSED,
  VM_ASK_HOST,
  VM_DESC_COUNT,
  VM_EVENT_COUNT,
  VM_FREED,
  VM_INVALIDATE_END,
  VM_INVALIDATE_IN_PROGRESS,
  VM_INVALIDATE_SEQ,
  VM_INVALIDATE_START,
  VM_MAX_GFN,
  VM_MMIO_ACCESS,
  VM_MMIO_CACHING,
  VM_PF_EMULATE,
  VM_PF_FIXED,
  VM_PF_SPURIOUS,
  VM_PF_TAKEN,
  VM_ROOT_REQUEST,
  VM_TDP,
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
import { makeRoom } from "../shadow/page-limit";
import { checkedLeaf } from "../spte/check";
import { restoreAccess } from "../spte/make";
import { isAccessTracked, isExecutable, isLast, isMmuWritable, isPresent, isWritable } from "../spte/predicates";
import { isTdpPage, tdpOf } from "../tdp/page";
import { fetch, fetchResume, mapDirect } from "./fetch";
import { mapTdp } from "./map";
import { mmioFault } from "./mmio";
import { quickFault } from "./quick-fault";

// @ts-ignore: decorator
@inline function count(vm: usize, counter: usize): void {
  store<u32>(vm + counter, load<u32>(vm + counter) + 1);
}

// @ts-ignore: decorator
@inline export function isDirect(vcpu: usize): bool {
  return (load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT_ROLE) & ROLE_DIRECT) != 0;
}

/** A write to a write-tracked page, which only emulation can do. */
function writesTracked(vcpu: usize): bool {
  const error = load<u32>(vcpu, VCPU_F_ERROR);
  if ((error & PFERR_RSVD) != 0 || (error & (PFERR_P | PFERR_W)) != (PFERR_P | PFERR_W)) return false;
  return isTracked(load<u32>(vcpu, VCPU_VM), load<u32>(vcpu, VCPU_F_SLOT), load<u64>(vcpu, VCPU_F_GFN));
}

function clearFlood(vcpu: usize): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const root: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT);
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    store<u32>(pageOf(vm, sptep), 0, SP_FLOOD);
  }
}

/**
 * Does the access write one of the tables that translate it, or could it once a large page is mapped?
 * Then the mapping is made of small pages at once.
 */
function selfChanging(vcpu: usize): bool {
  const access = load<u32>(vcpu, VCPU_GW_PTE_ACCESS);
  const wp = (load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_FLAGS) & MMU_WP) != 0;
  const user = (load<u32>(vcpu, VCPU_F_ERROR) & PFERR_U) != 0;
  if ((access & ACC_WRITE) == 0 && (wp || user)) return false;
  const first = load<u32>(vcpu, VCPU_GW_LEVEL);
  const mask = ~(((<u64>1) << (9 * ((first - 1) as u64))) - 1);
  let found = false;
  for (let level = first; level <= load<u32>(vcpu, VCPU_GW_MAX_LEVEL); level++) {
    const table = load<u64>(vcpu + ((<usize>(level - 1)) << 3), VCPU_GW_TABLE_GFN);
    if (((load<u64>(vcpu, VCPU_GW_GFN) ^ table) & mask) == 0) found = true;
  }
  return found;
}

function accessAllowed(vm: usize, error: u32, spte: u64): bool {
  if (error & PFERR_I) return isExecutable(vm, spte);
  if (error & PFERR_W) return isWritable(spte);
  return (spte & SPTE_P) != 0;
}

/**
 * A write that only dirty logging forbids, or an access that only access tracking noticed, is fixed in place.
 * Only in direct contexts: elsewhere an SPTE's gfn may change.
 */
function fastFault(vcpu: usize): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const error = load<u32>(vcpu, VCPU_F_ERROR);
  const adBits = load<u64>(vm, VM_ACCESSED) != 0;
  if (error & PFERR_RSVD) return RET_PF_INVALID;
  if (error & PFERR_P ? (error & PFERR_W) == 0 : adBits) return RET_PF_INVALID;
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const root: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT);
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
    const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
    if (accessAllowed(vm, error, spte)) result = RET_PF_SPURIOUS;
    else {
      let fixed = spte;
      if (!adBits && isAccessTracked(vm, spte)) fixed = restoreAccess(vm, spte);
      let logged = false;
      if (error & PFERR_W && isMmuWritable(vm, spte)) {
        fixed |= SPTE_W;
        // Only the first page of a large one would be logged; the slow path splits it.
        logged = level > 1 && slot != 0 && logsWrites(slot);
      }
      if (!logged && fixed != spte && accessAllowed(vm, error, fixed)) {
        store<u64>(sptep, checkedLeaf(vm, fixed));
        if (isWritable(fixed) && !isWritable(spte)) markDirty(slot, load<u64>(vcpu, VCPU_F_GFN));
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
function findHostPage(vcpu: usize, answered: bool): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
  const write = (load<u32>(vcpu, VCPU_F_ERROR) & PFERR_W) != 0;
  if (slot == 0) {
    store<u64>(vcpu, PFN_NO_SLOT, VCPU_F_PFN);
    store<u32>(vcpu, 0, VCPU_F_MAP_WRITABLE);
    return RET_PF_CONTINUE;
  }
  // The slot is being deleted or moved: its SPTEs are zapped before an MMIO SPTE may be made.
  if (isInvalid(slot)) return RET_PF_RETRY;
  if (write && isReadOnly(slot)) {
    store<u64>(vcpu, PFN_READ_ONLY, VCPU_F_PFN);
    store<u32>(vcpu, 0, VCPU_F_MAP_WRITABLE);
    return RET_PF_CONTINUE;
  }
  const page = load<u64>(hostPage(slot, load<u64>(vcpu, VCPU_F_GFN)));
  const ask = load<u32>(vm, VM_ASK_HOST) != 0 && !answered;
  if (ask || !(page & HOST_PRESENT) || (write && !(page & HOST_WRITABLE))) {
    store<u32>(vcpu, STAGE_HOST_PAGE, VCPU_F_STAGE);
    return NEED_HOST_PAGE;
  }
  store<u64>(vcpu, page & SPTE_ADDRESS, VCPU_F_PFN);
  store<u32>(vcpu, page & HOST_WRITABLE && !isReadOnly(slot) ? 1 : 0, VCPU_F_MAP_WRITABLE);
  return RET_PF_CONTINUE;
}

/** The root or a part of it was zapped, or the host changed its mapping while the page was looked up. */
function isStale(vcpu: usize): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const root: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT);
  if (isObsolete(vm, root) || load<u32>(root, SP_GAP) != 0) return true;
  const slot: usize = load<u32>(vcpu, VCPU_F_SLOT);
  if (slot == 0) return false;
  if (load<u32>(vm, VM_INVALIDATE_IN_PROGRESS) != 0) {
    const gfn = load<u64>(vcpu, VCPU_F_GFN);
    const hva = load<u64>(slot, MEMSLOT_HVA) + ((gfn - load<u64>(slot, MEMSLOT_BASE)) << 12);
    if (hva >= load<u64>(vm, VM_INVALIDATE_START) && hva < load<u64>(vm, VM_INVALIDATE_END)) return true;
  }
  return load<u32>(vm, VM_INVALIDATE_SEQ) != load<u32>(vcpu, VCPU_F_SEQ);
}

/** From the host page on. */
function mapFault(vcpu: usize, answered: bool): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const direct = isDirect(vcpu);
  const error = load<u32>(vcpu, VCPU_F_ERROR);
  const found = findHostPage(vcpu, answered);
  if (found != RET_PF_CONTINUE) return found;
  if (load<u64>(vcpu, VCPU_F_PFN) == PFN_READ_ONLY) return RET_PF_EMULATE;
  const access = direct ? ACC_ALL : load<u32>(vcpu, VCPU_GW_PTE_ACCESS);
  if (load<u32>(vcpu, VCPU_F_SLOT) == 0) {
    const gva = direct && load<u32>(vm, VM_TDP) != 0 ? 0 : load<u64>(vcpu, VCPU_F_ADDRESS);
    cacheMmioInfo(vcpu, gva, load<u64>(vcpu, VCPU_F_GFN), access & (<u32>load<u64>(vm, VM_MMIO_ACCESS)));
    if (load<u32>(vm, VM_MMIO_CACHING) == 0 || load<u64>(vcpu, VCPU_F_GFN) > load<u64>(vm, VM_MAX_GFN)) {
      return RET_PF_EMULATE;
    }
  } else if (
    !direct &&
    (error & (PFERR_W | PFERR_U)) == PFERR_W &&
    (access & ACC_WRITE) == 0 &&
    (load<u32>(mmu, MMU_FLAGS) & MMU_WP) == 0
  ) {
    // CR0.WP=0: the supervisor writes a read-only page. The SPTE becomes a supervisor's writable one, without
    // execution where SMEP would forbid it to the supervisor; the next user access makes it read-only again.
    let changed = (access | ACC_WRITE) & ~ACC_USER;
    if (load<u32>(mmu, MMU_FLAGS) & MMU_SMEP) changed &= ~ACC_EXEC;
    store<u32>(vcpu, changed, VCPU_GW_PTE_ACCESS);
  }
  if (isTdpPage(load<u32>(mmu, MMU_ROOT))) return isStale(vcpu) ? RET_PF_RETRY : mapTdp(vcpu);
  if (!makeRoom(vm)) return NO_SPACE;
  if (isStale(vcpu)) return RET_PF_RETRY;
  return direct ? mapDirect(vcpu) : fetch(vcpu, answered);
}

/** The slot of a fault at L1's address `gpa`. An alias of a page that is the VM's own leads nowhere. */
function visibleSlot(vcpu: usize, gpa: u64, gfn: u64): usize {
  const slot = vcpuSlot(vcpu, gfn);
  return isHidden(slot, gfn ^ (gpa >> 12)) ? 0 : slot;
}

/** Reads or writes through an alias that only grants execution. */
function violatesAlias(vcpu: usize, address: u64, error: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  // An EPT misconfiguration (an MMIO SPTE of before the slot was there) says nothing about the access: it is made again.
  if (error & (PFERR_I | PFERR_RSVD) || aliasRights(vm, address >> 12) == ACC_ALL) return false;
  store<u32>(vcpu, error | PFERR_P, VCPU_GW_ERROR);
  return true;
}

function startFault(vcpu: usize): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  const error = load<u32>(vcpu, VCPU_F_ERROR);
  const direct = isDirect(vcpu);
  store<u32>(vcpu, 1, VCPU_F_REQ_LEVEL);
  store<u32>(vcpu, 1, VCPU_F_GOAL_LEVEL);
  if (!direct && !walkGuest(vcpu, mmu, vcpu, address, error & ~PFERR_RSVD)) return RET_PF_INJECT;
  const gfn = direct ? gfnOfAddress(vm, address) : load<u64>(vcpu, VCPU_GW_GFN);
  store<u64>(vcpu, gfn, VCPU_F_GFN);
  const slot = visibleSlot(vcpu, direct ? address : load<u64>(vcpu, VCPU_GW_GPA), gfn);
  store<u32>(vcpu, <u32>slot, VCPU_F_SLOT);
  if (direct && slot != 0 && violatesAlias(vcpu, address, error)) return RET_PF_INJECT;
  if (writesTracked(vcpu)) {
    if (!direct) clearFlood(vcpu);
    return RET_PF_EMULATE;
  }
  if (direct) {
    const fast = fastFault(vcpu);
    if (fast != RET_PF_INVALID) return fast;
    // Without paging the tables are PAE ones: 2 MiB pages at most.
    store<u32>(vcpu, load<u32>(vm, VM_TDP) != 0 ? 3 : 2, VCPU_F_MAX_LEVEL);
  } else {
    const level = load<u32>(vcpu, VCPU_GW_LEVEL);
    store<u32>(vcpu, level > 1 && selfChanging(vcpu) ? 1 : level, VCPU_F_MAX_LEVEL);
  }
  store<u32>(vcpu, load<u32>(vm, VM_INVALIDATE_SEQ), VCPU_F_SEQ);
  return mapFault(vcpu, false);
}

function finish(vcpu: usize, result: u32): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  if (result == RET_PF_FIXED) count(vm, VM_PF_FIXED);
  else if (load<u32>(vcpu, VCPU_F_PREFETCH) == 0) {
    if (result == RET_PF_EMULATE) count(vm, VM_PF_EMULATE);
    else if (result == RET_PF_SPURIOUS) count(vm, VM_PF_SPURIOUS);
  }
  return result >= NEED_HOST_PAGE ? result : withAttention(vm, result);
}

// @ts-ignore: decorator
@inline function withAttention(vm: usize, result: u32): u32 {
  const attend = load<u32>(vm, VM_FREED) | load<u32>(vm, VM_ROOT_REQUEST) | load<u32>(vm, VM_EVENT_COUNT);
  return attend != 0 ? result | ATTEND : result;
}

/** Nothing is allocated half-way: the caches hold whatever one fault may take. */
// @ts-ignore: decorator
@inline function isStocked(vm: usize): bool {
  if (load<u32>(vm, VM_DESC_COUNT) < FAULT_DESCS) return false;
  const tdp = tdpOf(vm);
  return tdp == 0 || load<u32>(tdp, TDP_POOL_COUNT) >= FAULT_TDP_PAGES;
}

/**
 * For an address that 32 bits do not hold: TOO_WIDE where it is linear and the guest is not in long mode; RET_PF_EMULATE
 * where it is guest-physical and lies beyond the host's MAXPHYADDR or what the root translates, so that its entries would
 * be those of another address (handle_abnormal_pfn asks for the former); else RET_PF_CONTINUE. Behind L1's second stage
 * the walk of that decides.
 */
function checkReach(vcpu: usize, address: u64): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  if (load<u32>(vm, VM_TDP) == 0) return load<u32>(mmu, MMU_GUEST_LEVEL) < 4 ? TOO_WIDE : RET_PF_CONTINUE;
  if (!isDirect(vcpu)) return RET_PF_CONTINUE;
  const level = load<u32>(mmu, MMU_ROOT_ROLE) & ROLE_LEVEL;
  // A root of three levels has four entries.
  const width: u64 = level == 3 ? 32 : 12 + 9 * <u64>level;
  const beyond = address >> width != 0 || gfnOfAddress(vm, address) > load<u64>(vm, VM_MAX_GFN);
  return beyond ? RET_PF_EMULATE : RET_PF_CONTINUE;
}

/** The fault that F_ADDRESS, F_ERROR and F_PREFETCH describe, from its beginning. */
function begin(vcpu: usize): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const address = load<u64>(vcpu, VCPU_F_ADDRESS);
  if (address >> 32 != 0) {
    const reach = checkReach(vcpu, address);
    if (reach == RET_PF_EMULATE) return withAttention(vm, reach);
    if (reach != RET_PF_CONTINUE) return reach;
  }
  if (!isStocked(vm)) {
    store<u32>(vcpu, STAGE_START, VCPU_F_STAGE);
    return NEED_STOCK;
  }
  if (load<u32>(<usize>load<u32>(vcpu, VCPU_MMU), MMU_ROOT) == 0) return RET_PF_RETRY;
  const error = load<u32>(vcpu, VCPU_F_ERROR);
  if (error & PFERR_RSVD) {
    const result = mmioFault(vcpu, address, isDirect(vcpu));
    if (result != RET_PF_INVALID) return load<u32>(vm, VM_EVENT_COUNT) != 0 ? result | ATTEND : result;
  }
  if (load<u32>(vcpu, VCPU_F_PREFETCH) == 0) count(vm, VM_PF_TAKEN);
  return finish(vcpu, startFault(vcpu));
}

/**
 * Handles a fault at `address`; `error` is a page-fault error code. Returns a RET_PF code, perhaps with ATTEND, or a NEED
 * code, after which the host provides and calls `faultResume`.
 */
export function fault(vcpu: usize, address: u64, error: u32, prefetch: u32): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  if (((error & PFERR_RSVD) | prefetch) == 0 && isStocked(vm)) {
    const quick = quickFault(vcpu, vm, address, error);
    if (quick != RET_PF_INVALID) {
      count(vm, VM_PF_TAKEN);
      count(vm, quick == RET_PF_FIXED ? VM_PF_FIXED : VM_PF_SPURIOUS);
      return withAttention(vm, quick);
    }
  }
  store<u64>(vcpu, address, VCPU_F_ADDRESS);
  store<u32>(vcpu, error, VCPU_F_ERROR);
  store<u32>(vcpu, prefetch, VCPU_F_PREFETCH);
  return begin(vcpu);
}

/** Goes on after NEED_STOCK, NEED_HOST_PAGE (the slot's host page is set) or NEED_PAGE (REQ_PAGE is set). */
export function faultResume(vcpu: usize): u32 {
  const stage = load<u32>(vcpu, VCPU_F_STAGE);
  if (stage == STAGE_START) return begin(vcpu);
  return finish(vcpu, stage == STAGE_HOST_PAGE ? mapFault(vcpu, true) : fetchResume(vcpu, !isDirect(vcpu)));
}

/**
 * Faults at `addresses` (u64), from number `first` on, with one error code. Results (u32) are a RET_PF code, for
 * RET_PF_INJECT with the error code above bit 7. Stops where the host is needed or a fault has to be retried: returns that
 * fault's number, its code as result; else `count`.
 */
export function faultBatch(vcpu: usize, addresses: usize, results: usize, first: u32, count: u32, error: u32): u32 {
  for (let i = first; i < count; i++) {
    const code = fault(vcpu, load<u64>(addresses + ((<usize>i) << 3)), error, 0);
    const injected = code == RET_PF_INJECT ? load<u32>(vcpu, VCPU_GW_ERROR) << 8 : 0;
    store<u32>(results + ((<usize>i) << 2), code | injected);
    if (code >= NEED_HOST_PAGE || code == RET_PF_RETRY) return i;
  }
  return count;
}
