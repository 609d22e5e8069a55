/**
 * Telling which translations other vCPUs and the processor may still hold although the tables have them no more
 * (kvm_flush_remote_tlbs and kvm_flush_remote_tlbs_with_address). The host takes the notes and flushes.
 */
import { Vm } from "../abi/records";
import { FLUSH_CAPACITY } from "../abi/shadow";

function countFlush(vm: Vm): void {
  vm.flushes++;
}

/** Everything has to be flushed. */
export function flushRemote(vm: Vm): void {
  countFlush(vm);
  vm.flushAll = 1;
}

/** Notes a range; one too many becomes a flush of everything. */
function note(vm: Vm, gfn: u64, pages: u64): void {
  const count = vm.flushCount;
  if (count == FLUSH_CAPACITY) {
    vm.flushAll = 1;
    return;
  }
  const range = vm.flushRanges(count);
  range.gfn = gfn;
  range.pages = pages;
  vm.flushCount = count + 1;
}

/**
 * Translations of gfns [gfn, gfn + pages) have to be flushed, through both aliases where one bit tells two apart; with
 * more such bits everything is. So is it while pages shadow a guest's tables: their translations go by other addresses than
 * the gfns that they map.
 */
export function flushGfns(vm: Vm, gfn: u64, pages: u64): void {
  const mask = vm.aliasMask;
  if (vm.rangedFlush == 0 || vm.indirect != 0 || popcnt<u64>(mask) > 1) {
    flushRemote(vm);
    return;
  }
  countFlush(vm);
  note(vm, gfn, pages);
  if (mask != 0) note(vm, gfn | mask, pages);
}
