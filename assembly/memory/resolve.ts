/** Guest-physical to linear addresses. */
import { NOT_READ, NO_MEMORY } from "../abi/codes";
import { Memory, RamSlot, SlotRange, SourcePage } from "../abi/records";

/**
 * The linear address of guest-physical `gpa`, NO_MEMORY where nothing is there, or
 * NOT_READ where the host has to read the page from its source first.
 * An aligned entry never gets one of these two addresses: both end in 0b1x at the top of memory.
 */
// @ts-ignore: decorator
@inline export function resolve(memory: Memory, gpa: u64): u32 {
  const slot = memory.lastSlot;
  const offset = gpa - slot.base;
  if (offset < slot.size) return slot.linear + <u32>offset;
  return resolveElsewhere(memory, gpa);
}

/** `pointer`, which `resolve` gave for `gpa`, or 0 where that memory is never written. */
export function writable(memory: Memory, gpa: u64, pointer: u32): u32 {
  const slot = findSlot(memory, gpa);
  return slot != null && slot.readOnly == 0 ? pointer : 0;
}

/** The same for addresses that jump from slot to slot: by the index at once. */
// @ts-ignore: decorator
@inline export function resolveAnywhere(memory: Memory, gpa: u64): u32 {
  const index = memory.index;
  if (index == 0) return resolve(memory, gpa);
  const key = keyOf(gpa, memory.indexBits);
  if (key >= memory.indexKeys) return resolve(memory, gpa);
  const range = changetype<SlotRange>(index + <usize>key * SlotRange.SIZE);
  const slot = changetype<RamSlot>(memory.slots + range.first * RamSlot.SIZE);
  const offset = gpa - slot.base;
  if (offset < slot.size) return slot.linear + <u32>offset;
  return resolve(memory, gpa);
}

function resolveElsewhere(memory: Memory, gpa: u64): u32 {
  const slot = findSlot(memory, gpa);
  if (slot == null) return memory.pages ? findPage(memory, gpa) : NO_MEMORY;
  memory.lastSlot = slot;
  return slot.linear + <u32>(gpa - slot.base);
}

/** The slot that holds `gpa`, null for none: binary search, as slots are in ascending order, among those of its key. */
export function findSlot(memory: Memory, gpa: u64): RamSlot | null {
  const slots = memory.slots;
  let low: u32 = 0;
  let high = memory.slotCount;
  const index = memory.index;
  if (index != 0) {
    const key = keyOf(gpa, memory.indexBits);
    if (key >= memory.indexKeys) return null;
    const range = changetype<SlotRange>(index + <usize>key * SlotRange.SIZE);
    low = range.first;
    high = range.end;
  }
  while (low < high) {
    const middle = (low + high) >>> 1;
    const slot = changetype<RamSlot>(slots + middle * RamSlot.SIZE);
    const base = slot.base;
    if (gpa < base) high = middle;
    else if (gpa - base < slot.size) return slot;
    else low = middle + 1;
  }
  return null;
}

/** The key of an address (SLOT_RANGE); one of 64 bits has a key beyond all slots. */
// @ts-ignore: decorator
@inline function keyOf(gpa: u64, bits: u32): u64 {
  const page = gpa >> 12;
  const shift = max<i32>(63 - <i32>clz<u64>(max<u64>(page, 1)) - <i32>bits, 0);
  return ((<u64>shift) << bits) + (page >> shift);
}

/** Open addressing with linear probing; the host keeps the table at most half full. */
function findPage(memory: Memory, gpa: u64): u32 {
  const key = (gpa >> 12) + 1;
  const mask = memory.pageMask;
  const pages = memory.pages;
  let place = hashOf(key) & mask;
  while (true) {
    const page = changetype<SourcePage>(pages + place * SourcePage.SIZE);
    const found = page.key;
    if (found == key) {
      const linear = page.linear;
      return linear >= NOT_READ ? linear : linear + ((<u32>gpa) & 0xfff);
    }
    if (found == 0) return NOT_READ;
    place = (place + 1) & mask;
  }
}

/**
 * Registers a page that the host has read to `linear` (NO_MEMORY: the source has none; NOT_READ: it has to be read again).
 * Returns 0 where the frame is registered already, and to be read no more. The table must have room.
 */
export function insertPage(memory: Memory, gfn: u64, linear: u32): u32 {
  const key = gfn + 1;
  const mask = memory.pageMask;
  const pages = memory.pages;
  let place = hashOf(key) & mask;
  while (true) {
    const page = changetype<SourcePage>(pages + place * SourcePage.SIZE);
    const found = page.key;
    if (found == key) {
      const known = page.linear;
      if (known != NOT_READ && linear != NOT_READ) return 0;
      page.linear = linear;
      return known == NOT_READ ? 1 : 0;
    }
    if (found == 0) {
      page.key = key;
      page.linear = linear;
      return 1;
    }
    place = (place + 1) & mask;
  }
}

/** Multiplicative (Fibonacci) hash; the high half mixes every bit of the key. */
// @ts-ignore: decorator
@inline function hashOf(key: u64): u32 {
  return <u32>((key * 0x9e3779b97f4a7c15) >> 32);
}
