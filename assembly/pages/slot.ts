/** Memslots: from gfn to RAM, rmap heads, large-page and write-track counts, host pages, dirty bits. */
import {
  HOST_LEVEL_SHIFT,
  MEMSLOT_BASE,
  MEMSLOT_DIRTY,
  MEMSLOT_FLAGS,
  MEMSLOT_HOST,
  MEMSLOT_INTERNAL,
  MEMSLOT_INVALID,
  MEMSLOT_LOG,
  MEMSLOT_LPAGE,
  MEMSLOT_MEMTYPE,
  MEMSLOT_PAGES,
  MEMSLOT_RAM,
  MEMSLOT_READONLY,
  MEMSLOT_RMAP,
  MEMSLOT_SPACE,
  MEMSLOT_TRACK,
  SLOTSET_COUNT,
  SLOTSET_GENERATION,
  SLOTSET_LAST,
  SLOTSET_SLOTS,
  VCPU_SPACE,
  VCPU_VM,
  VM_MAX_HUGE_LEVEL,
  VM_SLOTS,
} from "../abi/shadow";

// @ts-ignore: decorator
@inline function contains(slot: usize, gfn: u64): bool {
  return gfn - load<u64>(slot, MEMSLOT_BASE) < <u64>load<u32>(slot, MEMSLOT_PAGES);
}

/** The memslot of `gfn` in address space `space` (0 normal, 1 SMM), 0 for none. */
export function findSlot(vm: usize, space: u32, gfn: u64): usize {
  return findSlotInline(vm, space, gfn);
}

/** The same for the hottest path. */
// @ts-ignore: decorator
@inline export function findSlotInline(vm: usize, space: u32, gfn: u64): usize {
  const set: usize = load<u32>(vm + ((<usize>space) << 2), VM_SLOTS);
  const last: usize = load<u32>(set, SLOTSET_LAST);
  return last != 0 && contains(last, gfn) ? last : searchSlot(set, gfn);
}

/** Slots are in ascending order. */
function searchSlot(set: usize, gfn: u64): usize {
  let low: u32 = 0;
  let high = load<u32>(set, SLOTSET_COUNT);
  while (low < high) {
    const middle = (low + high) >>> 1;
    const slot: usize = load<u32>(set + ((<usize>middle) << 2), SLOTSET_SLOTS);
    if (gfn < load<u64>(slot, MEMSLOT_BASE)) high = middle;
    else if (!contains(slot, gfn)) low = middle + 1;
    else {
      store<u32>(set, <u32>slot, SLOTSET_LAST);
      return slot;
    }
  }
  return 0;
}

// @ts-ignore: decorator
@inline export function vcpuSlot(vcpu: usize, gfn: u64): usize {
  return findSlot(load<u32>(vcpu, VCPU_VM), load<u32>(vcpu, VCPU_SPACE), gfn);
}

export function slotGeneration(vcpu: usize): u64 {
  const set: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_VM) + ((<usize>load<u32>(vcpu, VCPU_SPACE)) << 2), VM_SLOTS);
  return load<u64>(set, SLOTSET_GENERATION);
}

// @ts-ignore: decorator
@inline export function isReadOnly(slot: usize): bool {
  return (load<u32>(slot, MEMSLOT_FLAGS) & MEMSLOT_READONLY) != 0;
}

// @ts-ignore: decorator
@inline export function isInvalid(slot: usize): bool {
  return (load<u32>(slot, MEMSLOT_FLAGS) & MEMSLOT_INVALID) != 0;
}

// @ts-ignore: decorator
@inline export function logsWrites(slot: usize): bool {
  return (load<u32>(slot, MEMSLOT_FLAGS) & MEMSLOT_LOG) != 0;
}

/** The VM's own page, which the guest sees at its plain address only. */
// @ts-ignore: decorator
@inline export function isInternal(slot: usize): bool {
  return (load<u32>(slot, MEMSLOT_FLAGS) & MEMSLOT_INTERNAL) != 0;
}

/** Through an alias (`alias` has its bits) the slot cannot be seen. */
// @ts-ignore: decorator
@inline export function isHidden(slot: usize, alias: u64): bool {
  return alias != 0 && slot != 0 && isInternal(slot);
}

/** The slot's pages have a memory type of their own (an MTRR's), which the guest's page-attribute table may refine. */
// @ts-ignore: decorator
@inline export function hasMemtype(slot: usize): bool {
  return (load<u32>(slot, MEMSLOT_MEMTYPE) & 1) != 0;
}

/** It, in the place that an EPT leaf has for it. */
// @ts-ignore: decorator
@inline export function memtypeBits(slot: usize): u64 {
  return <u64>(load<u32>(slot, MEMSLOT_MEMTYPE) & ~1);
}

// @ts-ignore: decorator
@inline function pageIndex(slot: usize, gfn: u64): usize {
  return <usize>(gfn - load<u64>(slot, MEMSLOT_BASE));
}

/** Index of the large page of `level` that holds `gfn`; slots need not be aligned. */
function levelIndex(slot: usize, gfn: u64, level: u32): usize {
  const shift: u64 = 9 * (<u64>level - 1);
  return <usize>((gfn >> shift) - (load<u64>(slot, MEMSLOT_BASE) >> shift));
}

/** Linear address of guest-physical page `gfn`, 0 where no usable slot is. */
export function ramOf(vcpu: usize, gfn: u64): usize {
  const slot = vcpuSlot(vcpu, gfn);
  if (slot == 0 || isInvalid(slot)) return 0;
  return ramInSlot(slot, gfn);
}

/** Linear address of page `gfn` of a slot. */
// @ts-ignore: decorator
@inline export function ramInSlot(slot: usize, gfn: u64): usize {
  return <usize>load<u32>(slot, MEMSLOT_RAM) + (pageIndex(slot, gfn) << 12);
}

/** Pointer to the rmap head of the leaf SPTEs of `level` that map `gfn`. */
// @ts-ignore: decorator
@inline export function rmapHead(slot: usize, gfn: u64, level: u32): usize {
  return <usize>load<u32>(slot + ((<usize>(level - 1)) << 2), MEMSLOT_RMAP) + (levelIndex(slot, gfn, level) << 2);
}

// @ts-ignore: decorator
@inline function lpageCount(slot: usize, gfn: u64, level: u32): usize {
  return <usize>load<u32>(slot + ((<usize>(level - 2)) << 2), MEMSLOT_LPAGE) + (levelIndex(slot, gfn, level) << 2);
}

/** Forbids (1) or allows again (-1) large pages that contain `gfn`. */
export function changeLpage(slot: usize, gfn: u64, change: i32): void {
  for (let level: u32 = 2; level <= 3; level++) {
    const count = lpageCount(slot, gfn, level);
    store<u32>(count, load<u32>(count) + <u32>change);
  }
}

/** Counts a shadow page of an upper level on (1) or off (-1): the guest must not write its table unnoticed. */
export function changeTrack(slot: usize, gfn: u64, change: i32): void {
  const count = <usize>load<u32>(slot, MEMSLOT_TRACK) + (pageIndex(slot, gfn) << 1);
  store<u16>(count, <u16>(<i32>load<u16>(count) + change));
  changeLpage(slot, gfn, change);
}

// @ts-ignore: decorator
@inline function tracked(slot: usize, gfn: u64): bool {
  return load<u16>(<usize>load<u32>(slot, MEMSLOT_TRACK) + (pageIndex(slot, gfn) << 1)) != 0;
}

/** Writes to `gfn` are tracked, in either address space. */
export function isTracked(vm: usize, slot: usize, gfn: u64): bool {
  return slot != 0 && isTrackedInline(vm, slot, gfn);
}

/** The same for the hottest path, where there is a slot. */
// @ts-ignore: decorator
@inline export function isTrackedInline(vm: usize, slot: usize, gfn: u64): bool {
  return tracked(slot, gfn) || isTrackedIn(vm, load<u32>(slot, MEMSLOT_SPACE) ^ 1, gfn);
}

/** The same in one address space; most VMs have no slots in the other one. */
// @ts-ignore: decorator
@inline function isTrackedIn(vm: usize, space: u32, gfn: u64): bool {
  const set: usize = load<u32>(vm + ((<usize>space) << 2), VM_SLOTS);
  if (load<u32>(set, SLOTSET_COUNT) == 0) return false;
  const slot = findSlot(vm, space, gfn);
  return slot != 0 && tracked(slot, gfn);
}

/** Pointer to the host-page entry of `gfn`: address | HOST_* bits. */
// @ts-ignore: decorator
@inline export function hostPage(slot: usize, gfn: u64): usize {
  return <usize>load<u32>(slot, MEMSLOT_HOST) + (pageIndex(slot, gfn) << 3);
}

/** Largest level that the slot and the host's own mapping allow for `gfn`, at most `most`. */
export function mappingLevel(vm: usize, slot: usize, gfn: u64, most: u32): u32 {
  let level = min<u32>(most, load<u32>(vm, VM_MAX_HUGE_LEVEL));
  while (level > 1 && load<u32>(lpageCount(slot, gfn, level)) != 0) level--;
  if (level == 1) return 1;
  const host = ((<u32>load<u64>(hostPage(slot, gfn))) >> HOST_LEVEL_SHIFT) & 3;
  return min<u32>(level, host + 1);
}

export function markDirty(slot: usize, gfn: u64): void {
  if (slot == 0 || !logsWrites(slot)) return;
  const bitmap: usize = load<u32>(slot, MEMSLOT_DIRTY);
  if (bitmap == 0) return;
  const index = pageIndex(slot, gfn);
  const place = bitmap + ((index >> 6) << 3);
  store<u64>(place, load<u64>(place) | ((<u64>1) << (index & 63)));
}
