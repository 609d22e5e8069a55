/** Taking write access away from leaf SPTEs, for shadowed tables and for dirty logging. */
import { Memslot, Vm } from "../abi/records";
import { SPTE_W } from "../abi/spte";
import { rmapHead } from "../pages/slot";
import { adNeedsWriteProtect, isMmuWritable, isWritable } from "../spte/predicates";
import { protectTable } from "../tdp/dirty";
import { hasTdp } from "../tdp/page";
import { rmapFirst, rmapNext, rmapSptep } from "./rmap";
import { updateSpte } from "./update";

/**
 * With `forTable` the SPTE stays read-only until the shadow page is unsync or gone; without it (dirty logging) the next
 * write may make it writable again. Returns whether TLBs have to be flushed.
 */
function protectSpte(vm: Vm, sptep: usize, forTable: bool): bool {
  let spte = load<u64>(sptep);
  if (!isWritable(spte) && !(forTable && isMmuWritable(vm, spte))) return false;
  if (forTable) spte &= ~vm.mmuWritable;
  return updateSpte(vm, sptep, spte & ~SPTE_W);
}

export function protectRmap(vm: Vm, head: usize, forTable: bool): bool {
  let flush = false;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    if (protectSpte(vm, rmapSptep(cursor), forTable)) flush = true;
  }
  return flush;
}

/** Write-protects every leaf of level `from` to 3 that maps `gfn` because a table lies there. */
export function protectGfn(vm: Vm, slot: Memslot, gfn: u64, from: u32): bool {
  let flush = false;
  for (let level = from; level <= 3; level++) {
    if (protectRmap(vm, rmapHead(slot, gfn, level), true)) flush = true;
  }
  if (hasTdp(vm) && protectTable(vm, slot.space, gfn, from)) flush = true;
  return flush;
}

/** Readies the leaves of one rmap for the next round of dirty logging: clears D, or W where D is not to be relied on. */
export function clearDirtyRmap(vm: Vm, head: usize): bool {
  let flush = false;
  for (let cursor = rmapFirst(head); cursor != 0; cursor = rmapNext(cursor)) {
    const sptep = rmapSptep(cursor);
    const spte = load<u64>(sptep);
    if (adNeedsWriteProtect(spte)) {
      if (isWritable(spte)) {
        store<u64>(sptep, spte & ~SPTE_W);
        flush = true;
      }
    } else if (updateSpte(vm, sptep, spte & ~vm.dirty)) flush = true;
  }
  return flush;
}
