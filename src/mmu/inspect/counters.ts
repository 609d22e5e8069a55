/** The counters that the core keeps for a VM, by name. */
import { show } from "../../checks.js";
import type { VmRecord } from "../../core/records/mmu.js";

/** Each with its field of the VM record (VM in src/abi/shadow.ts says what it counts). */
const COUNTERS = {
  USED: "used",
  MAX: "max",
  INDIRECT: "indirect",
  UNSYNC: "unsync",
  PF_TAKEN: "pfTaken",
  PF_FIXED: "pfFixed",
  PF_SPURIOUS: "pfSpurious",
  PF_EMULATE: "pfEmulate",
  ZAPPED: "zapped",
  FLOODED: "flooded",
  RECYCLED: "recycled",
  NO_HUGE_COUNT: "noHugeCount",
  PTE_WRITES: "pteWrites",
  FLUSHES: "flushes",
  SYNC_MISMATCH: "syncMismatch",
  BROKEN: "broken",
} as const;

/** Name of a counter. */
export type CounterName = keyof typeof COUNTERS;

/** Throws RangeError for a name that no counter has. */
export function counterOf(vm: VmRecord, name: CounterName): number {
  if (typeof name !== "string" || !Object.hasOwn(COUNTERS, name)) {
    throw new RangeError(`counter is ${show(name)}, expected one of ${Object.keys(COUNTERS).join(", ")}`);
  }
  return vm[COUNTERS[name]];
}
