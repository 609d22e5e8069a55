/** Which translations have to be flushed from TLBs: what the core has noted since the host asked last. */

import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";

/** A range of guest-physical pages; `gfn` has the alias bits of the alias that is meant. */
export interface FlushRange {
  readonly gfn: bigint;
  readonly pages: bigint;
}

/** Everything, or the listed ranges; an empty list: nothing. */
export type PendingFlush = "all" | readonly FlushRange[];

/** Takes the notes. */
export function takeFlushes({ core }: Machine): PendingFlush {
  const record = core.vm;
  const { flushAll, flushCount } = record;
  record.flushAll = 0;
  record.flushCount = 0;
  return flushAll !== 0 ? "all" : Array.from({ length: flushCount }, (_, index) => core.flushRange(index));
}

/** Rights of its pages went away (kvm_arch_flush_remote_tlbs_memslot). */
export function flushSlot(vm: Machine, slot: Memslot): void {
  vm.core.flushGfns(slot.base, BigInt(slot.pages));
}
