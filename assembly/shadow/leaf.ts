/** Making a leaf SPTE with everything that follows from its being writable (make_spte), and installing it (mmu_set_spte). */
import { PFERR_W } from "../abi/bits";
import { Memslot, Mmu, ShadowPage, Vcpu, Vm } from "../abi/records";
import {
  KERNEL_RULE_WRITE_PROTECTED,
  RET_PF_EMULATE,
  RET_PF_FIXED,
  RET_PF_SPURIOUS,
  RET_PF_WRITE_PROTECTED,
} from "../abi/shadow";
import { ACC_WRITE, PFN_NO_SLOT, SPTE_PS, SPTE_W } from "../abi/spte";
import { gpteUsable } from "../guest/gpte";
import { broken } from "../pages/counters";
import { emitMarkMmio, emitSetSpte, tracing } from "../pages/event";
import { flushGfns } from "../pages/flush";
import { pagesOf } from "../pages/iterator";
import { childOf, indexOf, levelOf, setAccess, setTranslation, spteAddress } from "../pages/page";
import { hasMemtype, logsWrites, markDirty, memtypeBits, rmapHead, slotGeneration } from "../pages/slot";
import { checkedLeaf } from "../spte/check";
import { leafSpte, mmioSpte, trackAccess, writableBits } from "../spte/make";
import { addressOf, dirtyMask, isLarge, isLast, isPresent, isWritable } from "../spte/predicates";
import { rmapAdd } from "./rmap";
import { mustProtect } from "./unsync";
import { dropSpte, updateSpte, zapRmap } from "./update";
import { dropParent } from "./zap";

/** Leaves of one rmap above which all are zapped. */
// @ts-ignore: decorator
@inline const RECYCLE: u32 = 1000;

/** Sets a bit that the shadow format reserves: the engine never makes such an SPTE. */
export function isReservedSpte(mmu: Mmu, spte: u64, level: u32): bool {
  if (spte & mmu.shadowReserved((spte & SPTE_PS ? 5 : 0) + level - 1)) return true;
  return ((mmu.shadowBadMtXwr >> (spte & 63)) & 1) != 0;
}

/**
 * The leaf for host page `page` (an address) at `sptep`. It stays read-only where a shadow page of `gfn` cannot be unsync.
 */
export function makeSpte(
  vcpu: Vcpu,
  sp: ShadowPage,
  slot: Memslot | null,
  access: u32,
  gfn: u64,
  page: u64,
  old: u64,
  prefetch: bool,
  mayUnsync: bool,
  hostWritable: bool,
): u64 {
  const vm = vcpu.vm;
  const level = levelOf(sp);
  let spte = leafSpte(vm, sp.role, access, page, prefetch, hostWritable);
  const memtype = vm.memtype;
  if (memtype != 0 && slot != null && hasMemtype(slot)) spte = (spte & ~memtype) | memtypeBits(slot);
  if (access & ACC_WRITE && hostWritable) {
    // The page was writable before, so its shadow pages are unsync already and the old SPTE tells whether it is dirty.
    if (isLast(old, level) && isWritable(old)) spte |= writableBits(vm);
    else if (!mustProtect(vm, slot, gfn, mayUnsync, prefetch)) spte |= writableBits(vm) | dirtyMask(vm, spte);
  }
  if (prefetch) spte = trackAccess(vm, spte);
  if (isReservedSpte(vcpu.mmu, spte, level)) broken(vm);
  if (spte & SPTE_W && logsWrites(slot!)) {
    if (level > 1) broken(vm);
    markDirty(slot, gfn);
  }
  return checkedLeaf(vm, spte);
}

export function markMmio(vcpu: Vcpu, sptep: usize, gfn: u64, access: u32): void {
  const vm = vcpu.vm;
  const spte = mmioSpte(vm, gfn, access, slotGeneration(vcpu));
  emitMarkMmio(vm, gfn, spte, spteAddress(vm, sptep));
  store<u64>(sptep, spte);
}

/** Adds a new leaf to the rmap of its gfn. */
export function addLeaf(vm: Vm, slot: Memslot, sp: ShadowPage, sptep: usize, gfn: u64, access: u32): void {
  setTranslation(sp, indexOf(sptep), gfn, access);
  addToRmap(vm, slot, sptep, gfn, levelOf(sp));
}

/** Adds a leaf of `level` to the rmap of its gfn; when there are too many, all of them go. */
// @ts-ignore: decorator
@inline export function addToRmap(vm: Vm, slot: Memslot, sptep: usize, gfn: u64, level: u32): void {
  const head = rmapHead(slot, gfn, level);
  if (rmapAdd(vm, sptep, head) > RECYCLE) {
    zapRmap(vm, head);
    flushGfns(vm, gfn, pagesOf(level));
  }
}

/** How a fault ends that write protection of a table caused. */
export function writeProtected(vm: Vm): u32 {
  return vm.rules & KERNEL_RULE_WRITE_PROTECTED ? RET_PF_WRITE_PROTECTED : RET_PF_EMULATE;
}

/** Installs the leaf at entry `sptep` of `sp` for the fault in progress (`forFault`) or for a neighbour; a RET_PF code. */
export function installLeaf(
  vcpu: Vcpu,
  slot: Memslot | null,
  sp: ShadowPage,
  sptep: usize,
  access: u32,
  gfn: u64,
  page: u64,
  forFault: bool,
): u32 {
  const vm = vcpu.vm;
  const level = levelOf(sp);
  const hostWritable = !forFault || vcpu.fMapWritable != 0;
  const prefetch = !forFault || vcpu.fPrefetch != 0;
  let mapped = false;
  let flush = false;
  let old = load<u64>(sptep);
  if (isPresent(old)) {
    if (level > 1 && !isLarge(old)) {
      dropParent(vm, childOf(vm, old), sptep);
      flush = true;
    } else if (addressOf(vm, old) != page) {
      dropSpte(vm, sptep);
      flush = true;
    } else mapped = true;
    old = load<u64>(sptep);
  }
  if (page == PFN_NO_SLOT) {
    markMmio(vcpu, sptep, gfn, access);
    if (flush) flushGfns(vm, gfn, pagesOf(level));
    return RET_PF_EMULATE;
  }
  const spte = makeSpte(vcpu, sp, slot, access, gfn, page, old, prefetch, true, hostWritable);
  let result = RET_PF_FIXED;
  if (old == spte) result = RET_PF_SPURIOUS;
  else {
    if (updateSpte(vm, sptep, spte)) flush = true;
    if (tracing(vm)) emitSetSpte(vm, level, gfn, spte, spteAddress(vm, sptep));
  }
  const protectedNow = (access & ACC_WRITE) != 0 && hostWritable && !isWritable(spte);
  if (protectedNow && forFault && (vcpu.fError & PFERR_W) != 0) result = writeProtected(vm);
  if (flush) flushGfns(vm, gfn, pagesOf(level));
  if (mapped) setAccess(vm, sp, indexOf(sptep), access);
  else addLeaf(vm, slot!, sp, sptep, gfn, access);
  return result;
}

/** Drops the SPTE of an entry that maps nothing, was never accessed, or is malformed; returns whether it did. */
export function dropInvalid(vcpu: Vcpu, sptep: usize, gpte: u64): bool {
  const mmu = vcpu.mmu;
  const usable = gpteUsable(mmu, gpte);
  if (!usable) dropSpte(vcpu.vm, sptep);
  return !usable;
}
