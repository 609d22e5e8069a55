/** What the host calls of the TDP MMU. Ranges are gfns of a memslot. */
import { MEMSLOT_SPACE, TDP_PAGES, TDP_POOL, TDP_POOL_COUNT, TDP_ROOTS, SP_LINK } from "../abi/shadow";
import { listInit } from "../pages/list";
import { countSplits, splitLeaves } from "./huge";
import { tdpOf } from "./page";
import { getRoot } from "./root";

export function tdpInit(tdp: usize): void {
  listInit(tdp + TDP_ROOTS);
  listInit(tdp + TDP_PAGES);
}

/** Puts a header with its table into the pool. */
export function tdpFillPool(vm: usize, sp: usize): void {
  const tdp = tdpOf(vm);
  store<u32>(sp, load<u32>(tdp, TDP_POOL), SP_LINK);
  store<u32>(tdp, <u32>sp, TDP_POOL);
  store<u32>(tdp, load<u32>(tdp, TDP_POOL_COUNT) + 1, TDP_POOL_COUNT);
}

/** The root of a role, with a reference for the caller. */
export function tdpRoot(vm: usize, role: u32): usize {
  return getRoot(vm, role);
}

export function tdpCountSplits(vm: usize, slot: usize, start: u64, end: u64): u32 {
  return countSplits(vm, load<u32>(slot, MEMSLOT_SPACE), start, end);
}

export function tdpSplit(vm: usize, slot: usize, start: u64, end: u64): void {
  splitLeaves(vm, load<u32>(slot, MEMSLOT_SPACE), start, end);
}
