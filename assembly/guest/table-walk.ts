/**
 * The guest walk of the shadow engine by the tables of one context: the core's walk in KVM's rule set, over the memslots,
 * with what the shadow walk needs kept by level (KVM's struct guest_walker) and the walk's trace events in the kernel's order.
 */
import { PFERR_I, PFERR_P, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import { STATUS_EPT_MISCONFIGURATION, STATUS_OK, WALK_TRACE } from "../abi/codes";
import {
  SPACE_FETCH_CODE,
  SPACE_WIDTH,
  SPACE_WORK,
  STEP_ADDRESS,
  STEP_ENTRY,
  STEP_LEVEL,
  STEP_SIZE_OF,
  UPDATE_ADDRESS,
  UPDATE_BYTES,
  UPDATE_NEW,
  UPDATE_OLD,
  UPDATE_POINTER,
  UPDATE_SIZE_OF,
  WORK_CODE,
  WORK_ENTRY,
  WORK_GPA,
  WORK_LEVEL,
  WORK_RIGHTS,
  WORK_TRACE,
  WORK_TRACE_COUNT,
  WORK_UPDATES,
  WORK_UPDATE_COUNT,
} from "../abi/layout";
import {
  EV_PAGETABLE_WALK,
  EV_PAGING_ELEMENT,
  EV_SET_ACCESSED,
  EV_SET_DIRTY,
  EV_WALKER_ERROR,
  FORMAT_64,
  FORMAT_NONE,
  MMU_FORMAT,
  MMU_GUEST_LEVEL,
  MMU_SPACE,
  VCPU_AC,
  VCPU_GW_CHECKED,
  VCPU_GW_ERROR,
  VCPU_GW_GFN,
  VCPU_GW_GPA,
  VCPU_GW_LEVEL,
  VCPU_GW_MAX_LEVEL,
  VCPU_GW_NESTED,
  VCPU_GW_PTE,
  VCPU_GW_PTE_ACCESS,
  VCPU_GW_PTE_GPA,
  VCPU_GW_PT_ACCESS,
  VCPU_GW_TABLE_GFN,
  VCPU_VM,
  VCPU_WALK_MMU,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { emit, tracing } from "../pages/event";
import { markDirty, vcpuSlot } from "../pages/slot";
import { walkEpt } from "../walk/ept";
import { walkLegacy } from "../walk/legacy";
import { promoteSecondLeaf } from "../walk/result";
import { accessedBit, dirtyBit, gpteAccess, gpteAlias, gptePresent, isEpt, protectClean } from "./gpte";

/** An implicit supervisor access (the kernel's PFERR_IMPLICIT_ACCESS); not a bit of any error code. */
// @ts-ignore: decorator
@inline export const WALK_IMPLICIT: u32 = 0x100;

/** Bits of an error code that say what kind of access it is. */
// @ts-ignore: decorator
@inline export const KIND: u32 = PFERR_W | PFERR_U | PFERR_I;

/** Keeps tables, entries and the rights accumulated above them, by level. PDPTEs of PAE paging have none. */
export function keepEntries(vm: usize, mmu: usize, gw: usize, work: usize): void {
  const pae = load<u32>(mmu, MMU_FORMAT) == FORMAT_64 && load<u32>(mmu, MMU_GUEST_LEVEL) == 3;
  const traced = tracing(vm);
  const count = load<u32>(work, WORK_TRACE_COUNT);
  store<u32>(gw, pae ? 2 : load<u32>(mmu, MMU_GUEST_LEVEL), VCPU_GW_MAX_LEVEL);
  let above = ACC_ALL;
  for (let n: u32 = 0; n < count; n++) {
    const step = work + WORK_TRACE + n * STEP_SIZE_OF;
    const level = load<u32>(step, STEP_LEVEL);
    const entry = load<u64>(step, STEP_ENTRY);
    if (traced) emit(vm, EV_PAGING_ELEMENT, level, 0, 0, entry, 0, 0);
    if (pae && level == 3) continue;
    const i = <usize>(level - 1);
    const gpa = load<u64>(step, STEP_ADDRESS);
    store<u64>(gw + (i << 3), gpa >> 12, VCPU_GW_TABLE_GFN);
    store<u64>(gw + (i << 3), gpa, VCPU_GW_PTE_GPA);
    store<u64>(gw + (i << 3), entry, VCPU_GW_PTE);
    store<u32>(gw + (i << 2), above, VCPU_GW_PT_ACCESS);
    above &= gpteAccess(mmu, entry);
  }
}

/** Sets accessed and dirty bits in the guest's tables; false where an entry is not what the walk read. */
export function setAccessedDirty(vcpu: usize, mmu: usize, gw: usize, work: usize): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const traced = tracing(vm);
  const count = load<u32>(work, WORK_UPDATE_COUNT);
  const top = load<u32>(gw, VCPU_GW_MAX_LEVEL);
  for (let n: u32 = 0; n < count; n++) {
    const update = work + WORK_UPDATES + n * UPDATE_SIZE_OF;
    const gpa = load<u64>(update, UPDATE_ADDRESS);
    const old = load<u64>(update, UPDATE_OLD);
    const wanted = load<u64>(update, UPDATE_NEW);
    const set = old ^ wanted;
    if (traced && set & accessedBit(mmu)) emit(vm, EV_SET_ACCESSED, 0, 0, 0, gpa, 0, 0);
    if (traced && set & dirtyBit(mmu)) emit(vm, EV_SET_DIRTY, 0, 0, 0, gpa, 0, 0);
    // Tables in read-only memory keep the bits that they have.
    const pointer: usize = load<u32>(update, UPDATE_POINTER);
    if (pointer == 0) continue;
    if (load<u32>(update, UPDATE_BYTES) == 4) {
      if (load<u32>(pointer) != <u32>old) return false;
      store<u32>(pointer, <u32>wanted);
    } else {
      if (load<u64>(pointer) != old) return false;
      store<u64>(pointer, wanted);
    }
    markDirty(vcpuSlot(vcpu, gpa >> 12), gpa >> 12);
    for (let i: usize = 0; i < <usize>top; i++) {
      if (load<u64>(gw + (i << 3), VCPU_GW_PTE_GPA) == gpa) store<u64>(gw + (i << 3), wanted, VCPU_GW_PTE);
    }
  }
  return true;
}

/** Error code of a walk of L1's EPT; the fetch bit belongs to modes with NXE or SMEP, which EPT does not know. */
export function eptError(mmu: usize, work: usize, status: u32, code: u32): u32 {
  let error = code & (PFERR_W | PFERR_U);
  if (status == STATUS_EPT_MISCONFIGURATION) error |= PFERR_P | PFERR_RSVD;
  else if (gptePresent(mmu, load<u64>(work, WORK_ENTRY))) error |= PFERR_P;
  return error;
}

/** The place of the reserved bit says that SMAP does not apply: EFLAGS.AC is set and the access is explicit. */
// @ts-ignore: decorator
@inline export function accessKind(vcpu: usize, code: u32): u32 {
  const noSmap = load<u32>(vcpu, VCPU_AC) != 0 && (code & WALK_IMPLICIT) == 0;
  return (code & KIND) | (noSmap ? PFERR_RSVD : 0);
}

/**
 * Translates `address` by the tables of context `mmu` alone, for the access of error code `code` (PFERR bits,
 * WALK_IMPLICIT). Returns true with GW_GFN, GW_GPA and GW_PTE_ACCESS, or false with GW_ERROR. `gw` is a VCPU record that
 * takes the GW fields.
 */
export function walkTables(vcpu: usize, mmu: usize, gw: usize, address: u64, code: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  store<u32>(gw, 0, VCPU_GW_NESTED);
  store<u32>(gw, 0, VCPU_GW_CHECKED);
  if (load<u32>(mmu, MMU_FORMAT) == FORMAT_NONE) {
    store<u64>(gw, address >> 12, VCPU_GW_GFN);
    store<u64>(gw, address, VCPU_GW_GPA);
    return true;
  }
  const traced = tracing(vm);
  const space: usize = load<u32>(mmu, MMU_SPACE);
  const kind = accessKind(vcpu, code);
  if (traced) emit(vm, EV_PAGETABLE_WALK, code & 0xff, 0, 0, address, 0, 0);
  const work: usize = load<u32>(space, SPACE_WORK);
  const ept = isEpt(mmu);
  // A guest-physical address of L2's may be wider than L1's tables translate: nothing is there. walkEpt asks by itself.
  if (!ept && <u32>mmu != load<u32>(vcpu, VCPU_WALK_MMU) && address >> load<u32>(space, SPACE_WIDTH) != 0) {
    store<u32>(gw, load<u32>(mmu, MMU_GUEST_LEVEL), VCPU_GW_LEVEL);
    store<u32>(gw, code & (PFERR_W | PFERR_U | load<u32>(space, SPACE_FETCH_CODE)), VCPU_GW_ERROR);
    if (traced) emit(vm, EV_WALKER_ERROR, load<u32>(gw, VCPU_GW_ERROR), 0, 0, 0, 0, 0);
    return false;
  }
  while (true) {
    store<u32>(work, 0, WORK_TRACE_COUNT);
    store<u32>(work, 0, WORK_UPDATE_COUNT);
    const status = ept
      ? walkEpt(space, work, address, kind & KIND, WALK_TRACE)
      : walkLegacy(space, work, address, kind, WALK_TRACE);
    if (ept && status == STATUS_OK) promoteSecondLeaf(work);
    keepEntries(vm, mmu, gw, work);
    store<u32>(gw, load<u32>(work, WORK_LEVEL), VCPU_GW_LEVEL);
    if (status != STATUS_OK) {
      const error = ept ? eptError(mmu, work, status, code) : <u32>load<u64>(work, WORK_CODE);
      store<u32>(gw, error, VCPU_GW_ERROR);
      const cause = error & (PFERR_P | PFERR_RSVD);
      store<u32>(gw, cause == PFERR_P ? 1 : 0, VCPU_GW_CHECKED);
      if (traced) emit(vm, EV_WALKER_ERROR, error, 0, 0, 0, 0, 0);
      return false;
    }
    store<u32>(gw, 1, VCPU_GW_CHECKED);
    const gpa = load<u64>(work, WORK_GPA);
    const leaf = load<u64>(gw + ((<usize>(load<u32>(gw, VCPU_GW_LEVEL) - 1)) << 3), VCPU_GW_PTE);
    const rights = load<u32>(work, WORK_RIGHTS) & ACC_ALL;
    store<u64>(gw, gpa >> 12, VCPU_GW_GFN);
    store<u64>(gw, gpa | (gpteAlias(vm, mmu, leaf) << 12), VCPU_GW_GPA);
    store<u32>(gw, code & PFERR_W ? rights : protectClean(mmu, rights, leaf), VCPU_GW_PTE_ACCESS);
    if (setAccessedDirty(vcpu, mmu, gw, work)) return true;
  }
}
