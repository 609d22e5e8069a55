/** Which events of a step belong to one guest walk. */
import type { RecordedEvent } from "../format/events.js";

/** What a walk's own events are, besides its start and its entries. */
const INSIDE: ReadonlySet<string> = new Set([
  "kvm_mmu_walker_error",
  "kvm_mmu_set_accessed_bit",
  "kvm_mmu_set_dirty_bit",
  "mark_dirty",
]);

/**
 * Number of events of the walk that begins at `events[start]`. Where L2 runs behind L1's second stage (`twoStage`) each
 * access of a walk of L2's own tables goes through a walk of that stage, whose events lie inside.
 */
export function walkLength(events: readonly RecordedEvent[], start: number, twoStage: boolean): number {
  let walks = 0;
  let length = 0;
  let guestLevel = Number.POSITIVE_INFINITY;
  const inner = twoStage && events[start + 1]?.ev === "kvm_mmu_pagetable_walk";
  let innerDone = true;
  let final = false;
  for (const event of events.slice(start)) {
    if (event.ev === "kvm_mmu_pagetable_walk") {
      if (walks > 0 && (!inner || (innerDone && final))) break;
      if (walks > 0) {
        innerDone = false;
        final = guestLevel === 1;
      }
      walks++;
    } else if (event.ev === "kvm_mmu_paging_element") {
      if (inner && innerDone) guestLevel = event.level;
      else if (inner && event.level === 1) innerDone = true;
    } else if (!INSIDE.has(event.ev)) break;
    length++;
  }
  return length;
}
