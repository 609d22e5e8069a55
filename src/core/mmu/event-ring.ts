/** The buffer of trace events that the core fills. */
import type { Allocations } from "../linear/allocations.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { EventRecord, type VmRecord } from "../records/mmu.js";

export class EventRing {
  readonly #vm: VmRecord;
  readonly #event: EventRecord;
  readonly #linear: LinearMemory;

  /** No events are recorded with a `capacity` of 0. Throws OutOfMemoryError. */
  constructor(linear: LinearMemory, vm: VmRecord, memory: Allocations, capacity: number) {
    this.#vm = vm;
    this.#linear = linear;
    if (capacity !== 0) {
      vm.events = memory.take(capacity * EventRecord.SIZE);
      vm.eventCapacity = capacity;
    }
    this.#event = new EventRecord(linear, vm.events);
  }

  /** Events in it. */
  get count(): number {
    return this.#vm.eventCount;
  }

  /** @internal Bytes of the events in it, a view of linear memory. */
  bytes(): Uint8Array {
    const { events, eventCount } = this.#vm;
    return this.#linear.u8.subarray(events, events + eventCount * EventRecord.SIZE);
  }

  /** @internal Gives each event, which is good until the next one. */
  each(each: (event: EventRecord) => void): void {
    const { eventCount, events } = this.#vm;
    for (let index = 0; index < eventCount; index++) {
      this.#event.at = events + index * EventRecord.SIZE;
      each(this.#event);
    }
  }

  /** Gives each event, which is good until the next one, and empties the ring; number of those that found no room in it. */
  take(each: (event: EventRecord) => void): number {
    const { eventLost } = this.#vm;
    this.each(each);
    this.#vm.eventCount = 0;
    this.#vm.eventLost = 0;
    return eventLost;
  }
}
