/** The host kernel's mmu notifier calls of a recording. */

import type { RecordedEvent } from "../format/events.js";
import type { GuestMemoryTracker } from "../world/guest-memory.js";
import type { RecordedHost } from "../world/recorded-host.js";
import type { ReplayTarget } from "./target.js";

/** One notifier call, where it concerns the VM's memory. Returns whether memory was young, if that was asked. */
export function notify(
  event: RecordedEvent,
  target: ReplayTarget,
  host: RecordedHost,
  tracker: GuestMemoryTracker,
): boolean | undefined {
  const inSlots = (start: bigint, end: bigint): boolean =>
    tracker.slots.all().some((slot) => start < slot.hva + slot.size && end > slot.hva);
  switch (event.ev) {
    case "kvm_unmap_hva_range":
      if (!inSlots(event.start, event.end)) return undefined;
      host.unmapped(event.start, event.end);
      target.unmapRange(event.start, event.end);
      break;
    case "kvm_set_spte_hva":
      if (inSlots(event.hva, event.hva + 1n)) target.changePte(event.hva, host.current(event.hva));
      break;
    case "kvm_age_hva":
      return inSlots(event.start, event.end) ? target.age(event.start, event.end) : undefined;
    case "kvm_test_age_hva":
      return inSlots(event.hva, event.hva + 1n) ? target.testAge(event.hva, event.hva + 1n) : undefined;
  }
  return undefined;
}
