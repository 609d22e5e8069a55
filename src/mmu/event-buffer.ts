/** The event buffer of a VM: off by default; what the core recorded is decoded after each operation. */
import type { LinearMemory } from "../core/linear-memory.js";
import type { Allocations } from "./allocations.js";
import { drainEvents, type EventMasks, type MmuTraceEvent } from "./events.js";
import { eventRecord, VM_WORD, vmRecord } from "./records.js";

export class EventBuffer {
  /** Gets every event, in order; set it to receive them. */
  sink: ((event: MmuTraceEvent) => void) | undefined;
  readonly #address: number = 0;

  constructor(
    readonly linear: LinearMemory,
    readonly vm: number,
    memory: Allocations,
    readonly masks: EventMasks,
    readonly capacity: number,
  ) {
    if (capacity === 0) return;
    this.#address = memory.take(capacity * eventRecord.size);
    vmRecord.set32(linear, vm, "EVENTS", this.#address);
    vmRecord.set32(linear, vm, "EVENT_CAPACITY", capacity);
  }

  /** Passes on what has been recorded since the last call. */
  collect(vcpuId: number): void {
    if (this.#address === 0 || this.linear.u32[(this.vm >>> 2) + VM_WORD.eventCount] === 0) return;
    for (const event of drainEvents(this.linear, this.vm, this.masks, vcpuId)) this.sink?.(event);
  }
}
