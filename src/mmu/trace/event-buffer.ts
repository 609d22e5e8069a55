/** The event buffer of a VM: off by default; what the core recorded is decoded and passed on after each operation. */
import type { LinearMemory } from "../../core/linear-memory.js";
import type { Allocations } from "../memory/allocations.js";
import { eventRecord, VM_WORD, vmRecord } from "../memory/records.js";
import { drainEvents, type EventMasks, type MmuTraceEvent } from "./events.js";

export class EventBuffer {
  /**
   * Gets every event, in order, when the operation that made it is done; set it to receive them. What it throws reaches the
   * caller of that operation, and the events behind the one that it threw for come with the next operation.
   */
  sink: ((event: MmuTraceEvent) => void) | undefined;
  readonly #address: number = 0;
  /** Decoded and not passed on yet. */
  #waiting: MmuTraceEvent[] = [];
  #passingOn = false;
  #lost = 0;

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

  /** Events that found no room in the buffer since the VM was made. Each operation that lost some ends with `lost_events`. */
  get lost(): number {
    return this.#lost;
  }

  /** Passes on what has been recorded since the last call. */
  collect(vcpuId: number): void {
    if (this.#address === 0) return;
    if (this.linear.u32[(this.vm >>> 2) + VM_WORD.eventCount] !== 0) this.#take(vcpuId);
    // The sink may itself use the VM: what that records comes after what is being passed on.
    if (this.#waiting.length !== 0 && !this.#passingOn) this.#passOn();
  }

  #take(vcpuId: number): void {
    const { events, lost } = drainEvents(this.linear, this.vm, this.masks, vcpuId);
    this.#lost += lost;
    if (this.sink === undefined) return;
    this.#waiting.push(...events);
    if (lost !== 0) this.#waiting.push({ ev: "lost_events", count: lost });
  }

  #passOn(): void {
    this.#passingOn = true;
    let next = 0;
    try {
      while (next < this.#waiting.length) this.sink?.(this.#waiting[next++]!);
    } finally {
      this.#waiting = this.#waiting.slice(next);
      this.#passingOn = false;
    }
  }
}
