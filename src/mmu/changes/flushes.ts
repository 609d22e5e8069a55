/** Which translations have to be flushed from TLBs: what the core has noted since the host asked last. */

import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";
import { vmRecord } from "../memory/records.js";

/** A range of guest-physical pages; `gfn` has the alias bits of the alias that is meant. */
export interface FlushRange {
  readonly gfn: bigint;
  readonly pages: bigint;
}

/** Everything, or the listed ranges; an empty list: nothing. */
export type PendingFlush = "all" | readonly FlushRange[];

/** Takes the notes. */
export function takeFlushes(vm: Machine): PendingFlush {
  const { linear, pointer } = vm;
  const all = vmRecord.get32(linear, pointer, "FLUSH_ALL") !== 0;
  const count = vmRecord.get32(linear, pointer, "FLUSH_COUNT");
  vmRecord.set32(linear, pointer, "FLUSH_ALL", 0);
  vmRecord.set32(linear, pointer, "FLUSH_COUNT", 0);
  if (all) return "all";
  return Array.from({ length: count }, (_, i) => ({
    gfn: vmRecord.get64(linear, pointer, "FLUSH_RANGES", 2 * i),
    pages: vmRecord.get64(linear, pointer, "FLUSH_RANGES", 2 * i + 1),
  }));
}

/** Rights of its pages went away (kvm_arch_flush_remote_tlbs_memslot). */
export function flushSlot(vm: Machine, slot: Memslot): void {
  vm.exports.flushGfns(vm.pointer, slot.base, BigInt(slot.pages));
}
