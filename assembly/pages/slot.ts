/** Memslots: from gfn to RAM, rmap heads, large-page and write-track counts, host pages, dirty bits. */
import { Memslot, SlotSet, Vcpu, Vm } from "../abi/records";
import {
  HOST_LEVEL_SHIFT,
  MEMSLOT_INTERNAL,
  MEMSLOT_INVALID,
  MEMSLOT_LOG,
  MEMSLOT_READONLY,
  MEMSLOT_TYPE_SET,
} from "../abi/shadow";

// @ts-ignore: decorator
@inline function contains(slot: Memslot, gfn: u64): bool {
  return gfn - slot.base < <u64>slot.pages;
}

/** The memslot of `gfn` in address space `space` (0 normal, 1 SMM), null for none. */
export function findSlot(vm: Vm, space: u32, gfn: u64): Memslot | null {
  return findSlotInline(vm, space, gfn);
}

/** The same for the hottest path. */
// @ts-ignore: decorator
@inline export function findSlotInline(vm: Vm, space: u32, gfn: u64): Memslot | null {
  const set = vm.slots(space);
  const last = set.last;
  return last != null && contains(last, gfn) ? last : searchSlot(set, gfn);
}

/** Slots are in ascending order. */
function searchSlot(set: SlotSet, gfn: u64): Memslot | null {
  let low: u32 = 0;
  let high = set.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const slot = set.slots(middle);
    if (gfn < slot.base) high = middle;
    else if (!contains(slot, gfn)) low = middle + 1;
    else {
      set.last = slot;
      return slot;
    }
  }
  return null;
}

// @ts-ignore: decorator
@inline export function vcpuSlot(vcpu: Vcpu, gfn: u64): Memslot | null {
  return findSlot(vcpu.vm, vcpu.space, gfn);
}

export function slotGeneration(vcpu: Vcpu): u64 {
  return vcpu.vm.slots(vcpu.space).generation;
}

// @ts-ignore: decorator
@inline export function isReadOnly(slot: Memslot): bool {
  return (slot.flags & MEMSLOT_READONLY) != 0;
}

// @ts-ignore: decorator
@inline export function isInvalid(slot: Memslot): bool {
  return (slot.flags & MEMSLOT_INVALID) != 0;
}

// @ts-ignore: decorator
@inline export function logsWrites(slot: Memslot): bool {
  return (slot.flags & MEMSLOT_LOG) != 0;
}

/** The VM's own page, which the guest sees at its plain address only. */
// @ts-ignore: decorator
@inline export function isInternal(slot: Memslot): bool {
  return (slot.flags & MEMSLOT_INTERNAL) != 0;
}

/** Through an alias (`alias` has its bits) the slot cannot be seen. */
// @ts-ignore: decorator
@inline export function isHidden(slot: Memslot | null, alias: u64): bool {
  return alias != 0 && slot != null && isInternal(slot);
}

/** The guest has memory at `gfn` (kvm_vcpu_is_visible_gfn). */
export function isVisible(vcpu: Vcpu, gfn: u64): bool {
  const slot = vcpuSlot(vcpu, gfn);
  return slot != null && !isInvalid(slot) && !isInternal(slot);
}

/** The slot's pages have a memory type of their own (an MTRR's), which the guest's page-attribute table may refine. */
// @ts-ignore: decorator
@inline export function hasMemtype(slot: Memslot): bool {
  return (slot.memtype & MEMSLOT_TYPE_SET) != 0;
}

/** It, in the place that an EPT leaf has for it. */
// @ts-ignore: decorator
@inline export function memtypeBits(slot: Memslot): u64 {
  return <u64>(slot.memtype & ~MEMSLOT_TYPE_SET);
}

// @ts-ignore: decorator
@inline function pageIndex(slot: Memslot, gfn: u64): usize {
  return <usize>(gfn - slot.base);
}

/** Index of the large page of `level` that holds `gfn`; slots need not be aligned. */
function levelIndex(slot: Memslot, gfn: u64, level: u32): usize {
  const shift: u64 = 9 * (<u64>level - 1);
  return <usize>((gfn >> shift) - (slot.base >> shift));
}

/** Linear address of guest-physical page `gfn`, 0 where no usable slot is. */
export function ramOf(vcpu: Vcpu, gfn: u64): usize {
  const slot = vcpuSlot(vcpu, gfn);
  if (slot == null || isInvalid(slot)) return 0;
  return ramInSlot(slot, gfn);
}

/** Linear address of page `gfn` of a slot. */
// @ts-ignore: decorator
@inline export function ramInSlot(slot: Memslot, gfn: u64): usize {
  return slot.ram + (pageIndex(slot, gfn) << 12);
}

/** Pointer to the rmap head of the leaf SPTEs of `level` that map `gfn`. */
// @ts-ignore: decorator
@inline export function rmapHead(slot: Memslot, gfn: u64, level: u32): usize {
  return slot.rmap(level - 1) + (levelIndex(slot, gfn, level) << 2);
}

// @ts-ignore: decorator
@inline function lpageCount(slot: Memslot, gfn: u64, level: u32): usize {
  return slot.lpage(level - 2) + (levelIndex(slot, gfn, level) << 2);
}

/** Forbids (1) or allows again (-1) large pages that contain `gfn`. */
export function changeLpage(slot: Memslot, gfn: u64, change: i32): void {
  for (let level: u32 = 2; level <= 3; level++) {
    const count = lpageCount(slot, gfn, level);
    store<u32>(count, load<u32>(count) + <u32>change);
  }
}

/** Counts a shadow page of an upper level on (1) or off (-1): the guest must not write its table unnoticed. */
export function changeTrack(slot: Memslot, gfn: u64, change: i32): void {
  const count = slot.track + (pageIndex(slot, gfn) << 1);
  store<u16>(count, <u16>(<i32>load<u16>(count) + change));
  changeLpage(slot, gfn, change);
}

// @ts-ignore: decorator
@inline function tracked(slot: Memslot, gfn: u64): bool {
  return load<u16>(slot.track + (pageIndex(slot, gfn) << 1)) != 0;
}

/** Writes to `gfn` are tracked, in either address space. */
export function isTracked(vm: Vm, slot: Memslot | null, gfn: u64): bool {
  return slot != null && isTrackedInline(vm, slot, gfn);
}

/** The same for the hottest path, where there is a slot. */
// @ts-ignore: decorator
@inline export function isTrackedInline(vm: Vm, slot: Memslot, gfn: u64): bool {
  return tracked(slot, gfn) || isTrackedIn(vm, 1 - slot.space, gfn);
}

/** The same in one address space; most VMs have no slots in the other one. */
// @ts-ignore: decorator
@inline function isTrackedIn(vm: Vm, space: u32, gfn: u64): bool {
  const set = vm.slots(space);
  if (set.count == 0) return false;
  const slot = findSlot(vm, space, gfn);
  return slot != null && tracked(slot, gfn);
}

/** Pointer to the host-page entry of `gfn`: address | HOST_* bits. */
// @ts-ignore: decorator
@inline export function hostPage(slot: Memslot, gfn: u64): usize {
  return slot.host + (pageIndex(slot, gfn) << 3);
}

/** Largest level that the slot and the host's own mapping allow for `gfn`, at most `most`. */
export function mappingLevel(vm: Vm, slot: Memslot, gfn: u64, most: u32): u32 {
  let level = min<u32>(most, vm.maxHugeLevel);
  while (level > 1 && load<u32>(lpageCount(slot, gfn, level)) != 0) level--;
  if (level == 1) return 1;
  const host = ((<u32>load<u64>(hostPage(slot, gfn))) >> HOST_LEVEL_SHIFT) & 3;
  return min<u32>(level, host + 1);
}

export function markDirty(slot: Memslot | null, gfn: u64): void {
  if (slot == null || !logsWrites(slot)) return;
  const bitmap = slot.dirty;
  if (bitmap == 0) return;
  const index = pageIndex(slot, gfn);
  const place = bitmap + ((index >> 6) << 3);
  store<u64>(place, load<u64>(place) | ((<u64>1) << (index & 63)));
}
