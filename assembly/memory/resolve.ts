/** Guest-physical to linear addresses. */
import {
  MEMORY_LAST_SLOT,
  MEMORY_PAGES,
  MEMORY_PAGE_MASK,
  MEMORY_SLOTS,
  MEMORY_SLOT_COUNT,
  PAGE_KEY,
  PAGE_LINEAR,
  PAGE_SIZE_OF,
  SLOT_BASE,
  SLOT_LINEAR,
  SLOT_READ_ONLY,
  SLOT_SIZE,
  SLOT_SIZE_OF,
} from "../abi/layout";
import { NOT_READ, NO_MEMORY } from "../abi/codes";

/**
 * The linear address of guest-physical `gpa`, NO_MEMORY where nothing is there, or
 * NOT_READ where the host has to read the page from its source first.
 * An aligned entry never gets one of these two addresses: both end in 0b1x at the top of memory.
 */
// @ts-ignore: decorator
@inline export function resolve(memory: usize, gpa: u64): u32 {
  const slot = load<u32>(memory, MEMORY_LAST_SLOT);
  const offset = gpa - load<u64>(slot, SLOT_BASE);
  if (offset < load<u64>(slot, SLOT_SIZE)) return load<u32>(slot, SLOT_LINEAR) + <u32>offset;
  return resolveElsewhere(memory, gpa);
}

/** `pointer`, which `resolve` gave for `gpa`, or 0 where that memory is never written. */
export function writable(memory: usize, gpa: u64, pointer: u32): u32 {
  const slot = findSlot(memory, gpa);
  return slot != 0 && load<u32>(slot, SLOT_READ_ONLY) == 0 ? pointer : 0;
}

function resolveElsewhere(memory: usize, gpa: u64): u32 {
  const slot = findSlot(memory, gpa);
  if (slot == 0) return load<u32>(memory, MEMORY_PAGES) ? findPage(memory, gpa) : NO_MEMORY;
  store<u32>(memory, slot, MEMORY_LAST_SLOT);
  return load<u32>(slot, SLOT_LINEAR) + <u32>(gpa - load<u64>(slot, SLOT_BASE));
}

/** The slot that holds `gpa`, 0 for none: binary search, as slots are in ascending order. */
export function findSlot(memory: usize, gpa: u64): u32 {
  const slots = load<u32>(memory, MEMORY_SLOTS);
  let low: u32 = 0;
  let high = load<u32>(memory, MEMORY_SLOT_COUNT);
  while (low < high) {
    const middle = (low + high) >>> 1;
    const slot = slots + middle * SLOT_SIZE_OF;
    const base = load<u64>(slot, SLOT_BASE);
    if (gpa < base) high = middle;
    else if (gpa - base < load<u64>(slot, SLOT_SIZE)) return slot;
    else low = middle + 1;
  }
  return 0;
}

/** Open addressing with linear probing; the host keeps the table at most half full. */
function findPage(memory: usize, gpa: u64): u32 {
  const key = (gpa >> 12) + 1;
  const mask = load<u32>(memory, MEMORY_PAGE_MASK);
  const pages = load<u32>(memory, MEMORY_PAGES);
  let place = hashOf(key) & mask;
  while (true) {
    const page = pages + place * PAGE_SIZE_OF;
    const found = load<u64>(page, PAGE_KEY);
    if (found == key) {
      const linear = load<u32>(page, PAGE_LINEAR);
      return linear == NO_MEMORY ? NO_MEMORY : linear + ((<u32>gpa) & 0xfff);
    }
    if (found == 0) return NOT_READ;
    place = (place + 1) & mask;
  }
}

/**
 * Registers a page that the host has read to `linear` (NO_MEMORY: the source has none); 0 where the frame is registered
 * already. The table must have room.
 */
export function insertPage(memory: usize, gfn: u64, linear: u32): u32 {
  const key = gfn + 1;
  const mask = load<u32>(memory, MEMORY_PAGE_MASK);
  const pages = load<u32>(memory, MEMORY_PAGES);
  let place = hashOf(key) & mask;
  while (true) {
    const page = pages + place * PAGE_SIZE_OF;
    const found = load<u64>(page, PAGE_KEY);
    if (found == key) return 0;
    if (found == 0) {
      store<u64>(page, key, PAGE_KEY);
      store<u32>(page, linear, PAGE_LINEAR);
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
