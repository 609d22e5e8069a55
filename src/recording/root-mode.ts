import type { RecordedEvent } from "./events.js";
import type { Snapshot } from "./recording.js";
import { usesSpecialRoots } from "./state-comparator.js";

/** Per event: whether the recorded kernel's roots were special ones then, and whether it was loading roots. */
export interface RootMode {
  readonly special: boolean;
  readonly loading: boolean;
}

/** Levels of a root that mmu_alloc_root makes for a special one: its four level-2 pages. */
const ORDINARY_ROOT_LEVEL = 4;

/** The mode of the roots at each event of a step; `before` is the state that the step began with. */
export function rootModes(events: readonly RecordedEvent[], before: Snapshot | undefined): RootMode[] {
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
