/**
 * Reverse maps: a head of 32 bits is 0, the address of the only SPTE, or that of a Desc with RMAP_BLOCK set
 * (pte_list_desc in the kernel). Used for gfn to leaf SPTEs and for a page's parent SPTEs.
 */
import { Desc, Vm } from "../abi/records";
import { RMAP_BLOCK } from "../abi/shadow";

/** Pointers in a block. */
// @ts-ignore: decorator
@inline const BLOCK: u32 = 14;

/** The host keeps enough descriptors in the free list before an operation starts, so this cannot fail. */
function takeDesc(vm: Vm): Desc {
  const desc = vm.descFree!;
  vm.descFree = desc.more;
  vm.descCount--;
  desc.more = null;
  return desc;
}

function giveDesc(vm: Vm, desc: Desc): void {
  desc.more = vm.descFree;
  vm.descFree = desc;
  vm.descCount++;
}

/** The block that a head or a cursor leads to. */
// @ts-ignore: decorator
@inline function blockOf(value: usize): Desc {
  return changetype<Desc>(value & ~(<usize>RMAP_BLOCK));
}

/** What a head or a cursor holds for a block, 0 for none. */
// @ts-ignore: decorator
@inline function marked(desc: Desc | null): u32 {
  return desc != null ? (<u32>changetype<usize>(desc)) | RMAP_BLOCK : 0;
}

/** Adds an SPTE; returns how many there were before. */
export function rmapAdd(vm: Vm, sptep: usize, head: usize): u32 {
  const value: usize = load<u32>(head);
  if (value == 0) {
    store<u32>(head, <u32>sptep);
    return 0;
  }
  if (!(value & RMAP_BLOCK)) {
    const first = takeDesc(vm);
    first.setSptes(0, value);
    first.setSptes(1, sptep);
    first.count = 2;
    store<u32>(head, marked(first));
    return 1;
  }
  let count: u32 = 0;
  let desc = blockOf(value);
  while (desc.count == BLOCK) {
    count += BLOCK;
    const more = desc.more;
    if (more == null) {
      const fresh = takeDesc(vm);
      fresh.count = 0;
      desc.more = fresh;
      desc = fresh;
      break;
    }
    desc = more;
  }
  const used = desc.count;
  desc.setSptes(used, sptep);
  desc.count = used + 1;
  return count + used;
}

export function rmapRemove(vm: Vm, sptep: usize, head: usize): void {
  const value: usize = load<u32>(head);
  if (!(value & RMAP_BLOCK)) {
    if (value != sptep) vm.broken++;
    else store<u32>(head, 0);
    return;
  }
  let desc: Desc | null = blockOf(value);
  let previous: Desc | null = null;
  while (desc != null) {
    const count = desc.count;
    for (let i: u32 = 0; i < count; i++) {
      if (desc.sptes(i) != sptep) continue;
      desc.setSptes(i, desc.sptes(count - 1));
      desc.count = count - 1;
      if (count > 1) return;
      const more = desc.more;
      if (previous != null) previous.more = more;
      else store<u32>(head, marked(more));
      giveDesc(vm, desc);
      return;
    }
    previous = desc;
    desc = desc.more;
  }
  vm.broken++;
}

/** Frees the blocks and empties the list; the caller has dealt with the SPTEs. */
export function rmapClear(vm: Vm, head: usize): void {
  const value: usize = load<u32>(head);
  store<u32>(head, 0);
  if (!(value & RMAP_BLOCK)) return;
  let desc: Desc | null = blockOf(value);
  while (desc != null) {
    const more = desc.more;
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
  if (!(block & RMAP_BLOCK)) return block;
  return blockOf(block).sptes(<u32>(cursor >> 32));
}

export function rmapNext(cursor: u64): u64 {
  const block = <usize>(<u32>cursor);
  if (!(block & RMAP_BLOCK)) return 0;
  const desc = blockOf(block);
  const position = (cursor >> 32) + 1;
  if (<u32>position < desc.count) return (position << 32) | (<u64>block);
  return marked(desc.more);
}
