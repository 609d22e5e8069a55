/**
 * Telling which translations other vCPUs and the processor may still hold although the tables have them no more
 * (kvm_flush_remote_tlbs and kvm_flush_remote_tlbs_with_address). The host takes the notes and flushes.
 */
import {
  FLUSH_CAPACITY,
  VM_ALIAS_MASK,
  VM_FLUSH_ALL,
  VM_FLUSH_COUNT,
  VM_FLUSH_RANGES,
  VM_FLUSHES,
  VM_INDIRECT,
  VM_RANGED_FLUSH,
} from "../abi/shadow";

function countFlush(vm: usize): void {
  store<u32>(vm, load<u32>(vm, VM_FLUSHES) + 1, VM_FLUSHES);
}

/** Everything has to be flushed. */
export function flushRemote(vm: usize): void {
  countFlush(vm);
  store<u32>(vm, 1, VM_FLUSH_ALL);
}

/** Notes a range; one too many becomes a flush of everything. */
function note(vm: usize, gfn: u64, pages: u64): void {
  const count = load<u32>(vm, VM_FLUSH_COUNT);
  if (count == FLUSH_CAPACITY) {
    store<u32>(vm, 1, VM_FLUSH_ALL);
    return;
  }
  const place = vm + ((<usize>count) << 4);
  store<u64>(place, gfn, VM_FLUSH_RANGES);
  store<u64>(place, pages, VM_FLUSH_RANGES + 8);
  store<u32>(vm, count + 1, VM_FLUSH_COUNT);
}

/**
 * Translations of gfns [gfn, gfn + pages) have to be flushed, through both aliases where one bit tells two apart; with
 * more such bits everything is. So is it while pages shadow a guest's tables: their translations go by other addresses than
 * the gfns that they map.
 */
export function flushGfns(vm: usize, gfn: u64, pages: u64): void {
  const mask = load<u64>(vm, VM_ALIAS_MASK);
  if (load<u32>(vm, VM_RANGED_FLUSH) == 0 || load<u32>(vm, VM_INDIRECT) != 0 || popcnt<u64>(mask) > 1) {
    flushRemote(vm);
    return;
  }
  countFlush(vm);
  note(vm, gfn, pages);
  if (mask != 0) note(vm, gfn | mask, pages);
}
