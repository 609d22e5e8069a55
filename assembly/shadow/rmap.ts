/**
 * Reverse maps: a head of 32 bits is 0, the address of the only SPTE, or a DESC pointer with bit 0 set
 * (pte_list_desc in the kernel). Used for gfn to leaf SPTEs and for a page's parent SPTEs.
 */
import { DESC_COUNT, DESC_MORE, DESC_SPTES, VM_BROKEN, VM_DESC_COUNT, VM_DESC_FREE } from "../abi/shadow";

/** Pointers in a block. */
// @ts-ignore: decorator
@inline const BLOCK: u32 = 14;

/** The host keeps enough descriptors in the free list before an operation starts, so this cannot fail. */
function takeDesc(vm: usize): usize {
  const desc: usize = load<u32>(vm, VM_DESC_FREE);
  store<u32>(vm, load<u32>(desc, DESC_MORE), VM_DESC_FREE);
  store<u32>(vm, load<u32>(vm, VM_DESC_COUNT) - 1, VM_DESC_COUNT);
  store<u32>(desc, 0, DESC_MORE);
  return desc;
}

function giveDesc(vm: usize, desc: usize): void {
  store<u32>(desc, load<u32>(vm, VM_DESC_FREE), DESC_MORE);
  store<u32>(vm, <u32>desc, VM_DESC_FREE);
  store<u32>(vm, load<u32>(vm, VM_DESC_COUNT) + 1, VM_DESC_COUNT);
}

// @ts-ignore: decorator
@inline function place(desc: usize, i: u32): usize {
  return desc + DESC_SPTES + ((<usize>i) << 2);
}

/** Adds an SPTE; returns how many there were before. */
export function rmapAdd(vm: usize, sptep: usize, head: usize): u32 {
  const value: usize = load<u32>(head);
  if (value == 0) {
    store<u32>(head, <u32>sptep);
    return 0;
  }
  let desc: usize;
  if (!(value & 1)) {
    desc = takeDesc(vm);
    store<u32>(place(desc, 0), <u32>value);
    store<u32>(place(desc, 1), <u32>sptep);
    store<u32>(desc, 2, DESC_COUNT);
    store<u32>(head, (<u32>desc) | 1);
    return 1;
  }
  let count: u32 = 0;
  desc = value & ~1;
  while (load<u32>(desc, DESC_COUNT) == BLOCK) {
    count += BLOCK;
    const more: usize = load<u32>(desc, DESC_MORE);
    if (more == 0) {
      const fresh = takeDesc(vm);
      store<u32>(fresh, 0, DESC_COUNT);
      store<u32>(desc, <u32>fresh, DESC_MORE);
      desc = fresh;
      break;
    }
    desc = more;
  }
  const used = load<u32>(desc, DESC_COUNT);
  store<u32>(place(desc, used), <u32>sptep);
  store<u32>(desc, used + 1, DESC_COUNT);
  return count + used;
}

export function rmapRemove(vm: usize, sptep: usize, head: usize): void {
  const value: usize = load<u32>(head);
  if (!(value & 1)) {
    if (value != sptep) store<u32>(vm, load<u32>(vm, VM_BROKEN) + 1, VM_BROKEN);
    else store<u32>(head, 0);
    return;
  }
  let desc = value & ~1;
  let previous: usize = 0;
  while (desc != 0) {
    const count = load<u32>(desc, DESC_COUNT);
    for (let i: u32 = 0; i < count; i++) {
      if (<usize>load<u32>(place(desc, i)) != sptep) continue;
      store<u32>(place(desc, i), load<u32>(place(desc, count - 1)));
      store<u32>(desc, count - 1, DESC_COUNT);
      if (count > 1) return;
      const more: usize = load<u32>(desc, DESC_MORE);
      if (previous != 0) store<u32>(previous, <u32>more, DESC_MORE);
      else store<u32>(head, more != 0 ? (<u32>more) | 1 : 0);
      giveDesc(vm, desc);
      return;
    }
    previous = desc;
    desc = load<u32>(desc, DESC_MORE);
  }
  store<u32>(vm, load<u32>(vm, VM_BROKEN) + 1, VM_BROKEN);
}

/** Frees the blocks and empties the list; the caller has dealt with the SPTEs. */
export function rmapClear(vm: usize, head: usize): void {
  const value: usize = load<u32>(head);
  store<u32>(head, 0);
  if (!(value & 1)) return;
  let desc = value & ~1;
  while (desc != 0) {
    const more: usize = load<u32>(desc, DESC_MORE);
    giveDesc(vm, desc);
    desc = more;
  }
}

// A cursor holds the block (or the only SPTE) in its low half and the position in its high half; 0 is the end.

// @ts-ignore: decorator
@inline export function rmapFirst(head: usize): u64 {
  return load<u32>(head);
}

export function rmapSptep(cursor: u64): usize {
  const block = <usize>(<u32>cursor);
  if (!(block & 1)) return block;
  return load<u32>(place(block & ~1, <u32>(cursor >> 32)));
}

export function rmapNext(cursor: u64): u64 {
  const block = <usize>(<u32>cursor);
  if (!(block & 1)) return 0;
  const desc = block & ~1;
  const position = (cursor >> 32) + 1;
  if (<u32>position < load<u32>(desc, DESC_COUNT)) return (position << 32) | (<u64>block);
  const more = load<u32>(desc, DESC_MORE);
  return more != 0 ? <u64>(more | 1) : 0;
}
