/** When in a step the recorded kernel's roots were special ones, and when it was loading roots. */
import type { RecordedEvent } from "../format/events.js";
import type { Snapshot } from "../format/recording.js";
import { usesSpecialRoots } from "./state-comparator.js";

/** Per event: whether the recorded kernel's roots were special ones then, and whether it was loading roots. */
export interface RootMode {
  readonly special: boolean;
  readonly loading: boolean;
}

/** Levels of a root that mmu_alloc_root makes for a special one: its four level-2 pages. */
const ORDINARY_ROOT_LEVEL = 4;

/**
 * The mode of the roots at each event of a step, between the state `before` that it began with (undefined for a
 * vCPU's first step) and the state `after`. L2 under nested paging runs on the roots of guest_mmu.
 */
export function rootModes(events: readonly RecordedEvent[], before: Snapshot | undefined, after: Snapshot): RootMode[] {
  let special = false;
  if (before !== undefined) {
    const active = before.active === "guest_mmu" ? before.guestMmu : before.rootMmu;
    special = active !== undefined && usesSpecialRoots(active);
  } else {
    const first = events.find((event) => event.ev === "alloc_root");
    special = first?.ev === "alloc_root" && first.level < ORDINARY_ROOT_LEVEL;
  }
  let loading = false;
  return events.map((event, index) => {
    if (event.ev === "kvm_nested_vmenter" && event.tdp_enabled !== 0 && after.guestMmu !== undefined)
      special = usesSpecialRoots(after.guestMmu);
    if (event.ev === "kvm_nested_vmexit_inject" && after.guestMmu !== undefined)
      special = usesSpecialRoots(after.rootMmu);
    if (event.ev === "mmu_load") {
      loading = true;
      for (const later of events.slice(index)) {
        if (later.ev === "mmu_load_ret") break;
        if (later.ev === "alloc_root") special = later.level < ORDINARY_ROOT_LEVEL;
      }
    }
    const mode = { special, loading };
    if (event.ev === "mmu_load_ret") loading = false;
    return mode;
  });
}
