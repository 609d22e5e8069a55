/**
 * The guest walk of the shadow engine by the tables of one context: the core's walk in KVM's rule set, over the memslots,
 * with what the shadow walk needs kept by level (KVM's struct guest_walker) and the walk's trace events in the kernel's order.
 */
import { PFERR_I, PFERR_P, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import { STATUS_EPT_MISCONFIGURATION, STATUS_EPT_VIOLATION, STATUS_OK, WALK_TRACE } from "../abi/codes";
import { Mmu, Vcpu, Vm, Work } from "../abi/records";
import {
  EV_PAGETABLE_WALK,
  EV_PAGING_ELEMENT,
  EV_SET_ACCESSED,
  EV_SET_DIRTY,
  EV_WALKER_ERROR,
  FORMAT_64,
  FORMAT_NONE,
  WALK_IMPLICIT,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { emit, tracing } from "../pages/event";
import { markDirty, vcpuSlot } from "../pages/slot";
import { walkEpt } from "../walk/ept";
import { walkLegacy } from "../walk/legacy";
import { promoteSecondLeaf } from "../walk/result";
import { exchangeEntry } from "../walk/updates";
import { accessedBit, dirtyBit, gpteAccess, gpteAlias, gptePresent, isEpt, protectClean } from "./gpte";

/** Bits of an error code that say what kind of access it is. */
// @ts-ignore: decorator
@inline export const KIND: u32 = PFERR_W | PFERR_U | PFERR_I;

/** Keeps tables, entries and the rights accumulated above them, by level. PDPTEs of PAE paging have none. */
export function keepEntries(vm: Vm, mmu: Mmu, gw: Vcpu, work: Work): void {
  const pae = mmu.format == FORMAT_64 && mmu.guestLevel == 3;
  const traced = tracing(vm);
  const count = work.traceCount;
  gw.gwMaxLevel = pae ? 2 : mmu.guestLevel;
  let above = ACC_ALL;
  for (let n: u32 = 0; n < count; n++) {
    const step = work.trace(n);
    const level = step.level;
    const entry = step.entry;
    if (traced) emit(vm, EV_PAGING_ELEMENT, level, 0, 0, entry, 0, 0);
    const i = level - 1;
    const gpa = step.address;
    gw.setGwPteGpa(i, gpa);
    gw.setGwPte(i, entry);
    if (pae && level == 3) continue;
    gw.setGwTableGfn(i, gpa >> 12);
    gw.setGwPtAccess(i, above);
    above &= gpteAccess(mmu, entry);
  }
}

/** Sets accessed and dirty bits in the guest's tables; false where an entry is not what the walk read. */
export function setAccessedDirty(vcpu: Vcpu, mmu: Mmu, gw: Vcpu, work: Work): bool {
  const vm = vcpu.vm;
  const traced = tracing(vm);
  const count = work.updateCount;
  const top = gw.gwMaxLevel;
  for (let n: u32 = 0; n < count; n++) {
    const update = work.updates(n);
    const gpa = update.address;
    const old = update.old;
    const wanted = update.new;
    const set = old ^ wanted;
    if (traced && set & accessedBit(mmu)) emit(vm, EV_SET_ACCESSED, 0, 0, 0, gpa, 0, 0);
    if (traced && set & dirtyBit(mmu)) emit(vm, EV_SET_DIRTY, 0, 0, 0, gpa, 0, 0);
    // Tables in read-only memory keep the bits that they have.
    const pointer = update.pointer;
    if (pointer == 0) continue;
    if (exchangeEntry(pointer, update.bytes, old, wanted) != old) return false;
    markDirty(vcpuSlot(vcpu, gpa >> 12), gpa >> 12);
    for (let i: u32 = 0; i < top; i++) {
      if (gw.gwPteGpa(i) == gpa) gw.setGwPte(i, wanted);
    }
  }
  return true;
}

/** Error code of a walk of L1's EPT; the fetch bit belongs to modes with NXE or SMEP, which EPT does not know. */
export function eptError(mmu: Mmu, work: Work, status: u32, code: u32): u32 {
  let error = code & (PFERR_W | PFERR_U);
  if (status == STATUS_EPT_MISCONFIGURATION) error |= PFERR_P | PFERR_RSVD;
  else if (gptePresent(mmu, work.entry)) error |= PFERR_P;
  return error;
}

/** The place of the reserved bit says that SMAP does not apply: EFLAGS.AC is set and the access is explicit. */
// @ts-ignore: decorator
@inline export function accessKind(vcpu: Vcpu, code: u32): u32 {
  const noSmap = vcpu.ac != 0 && (code & WALK_IMPLICIT) == 0;
  return (code & KIND) | (noSmap ? PFERR_RSVD : 0);
}

/**
 * Translates `address` by the tables of context `mmu` alone, for the access of error code `code` (PFERR bits,
 * WALK_IMPLICIT). Returns true with `gwGfn`, `gwGpa` and `gwPteAccess`, or false with `gwError`. `gw` is a Vcpu that
 * takes these fields.
 */
export function walkTables(vcpu: Vcpu, mmu: Mmu, gw: Vcpu, address: u64, code: u32): bool {
  const vm = vcpu.vm;
  gw.gwNested = 0;
  gw.gwChecked = 0;
  if (mmu.format == FORMAT_NONE) {
    gw.gwGfn = address >> 12;
    gw.gwGpa = address;
    return true;
  }
  const traced = tracing(vm);
  const space = mmu.space;
  const kind = accessKind(vcpu, code);
  if (traced) emit(vm, EV_PAGETABLE_WALK, code & 0xff, 0, 0, address, 0, 0);
  const work = space.work;
  const ept = isEpt(mmu);
  // A guest-physical address of L2's may be wider than L1's tables translate: nothing is there. walkEpt asks by itself.
  if (!ept && mmu != vcpu.walkMmu && address >> space.width != 0) {
    gw.gwLevel = mmu.guestLevel;
    gw.gwError = code & (PFERR_W | PFERR_U | space.fetchCode);
    if (traced) emit(vm, EV_WALKER_ERROR, gw.gwError, 0, 0, 0, 0, 0);
    return false;
  }
  while (true) {
    work.traceCount = 0;
    work.updateCount = 0;
    const status = ept
      ? walkEpt(space, work, address, kind & KIND, WALK_TRACE)
      : walkLegacy(space, work, address, kind, WALK_TRACE);
    if (ept && status == STATUS_OK) promoteSecondLeaf(work);
    keepEntries(vm, mmu, gw, work);
    gw.gwLevel = work.level;
    if (status != STATUS_OK) {
      const error = ept ? eptError(mmu, work, status, code) : <u32>work.code;
      gw.gwError = error;
      gw.gwQualification = status == STATUS_EPT_VIOLATION ? <u32>work.code : 0;
      const cause = error & (PFERR_P | PFERR_RSVD);
      gw.gwChecked = cause == PFERR_P ? 1 : 0;
      if (traced) emit(vm, EV_WALKER_ERROR, error, 0, 0, 0, 0, 0);
      return false;
    }
    gw.gwChecked = 1;
    const gpa = work.gpa;
    const leaf = gw.gwPte(gw.gwLevel - 1);
    const rights = work.rights & ACC_ALL;
    gw.gwGfn = gpa >> 12;
    gw.gwGpa = gpa | (gpteAlias(vm, mmu, leaf) << 12);
    gw.gwPteAccess = code & PFERR_W ? rights : protectClean(mmu, rights, leaf);
    if (setAccessedDirty(vcpu, mmu, gw, work)) return true;
  }
}
