/** The event buffer of a VM: off by default; what the core recorded is decoded and passed on after each operation. */
import type { EventRing } from "../../core/mmu/event-ring.js";
import { BusyError } from "../../errors.js";
import { decodeEvent, type EventMasks, type MmuTraceEvent, type SplitMasks, splitMasks } from "./events.js";

export class EventBuffer {
  /**
   * Nothing comes while `eventCapacity` is 0, the default. Gets every event, in order, when the operation that made it is done; set it to receive them. What it throws reaches the
   * caller of that operation, and the events behind the one that it threw for come with the next operation.
   */
  sink: ((event: MmuTraceEvent) => void) | undefined;
  #ring: EventRing;
  readonly #masks: SplitMasks;
  /** See FaultInfo. */
  readonly #writeProtected: boolean;
  /** Decoded and not passed on yet. */
  #waiting: MmuTraceEvent[] = [];
  #passingOn = false;
  #lost = 0;

  constructor(ring: EventRing, masks: EventMasks, writeProtected: boolean) {
    this.#ring = ring;
    this.#masks = splitMasks(masks);
    this.#writeProtected = writeProtected;
  }

  /** Events that found no room in the buffer since the VM was made. Each operation that lost some ends with `lost_events`. */
  get lost(): number {
    return this.#lost;
  }

  /** @internal What was decoded and not passed on, and events lost: what a saved state is made of. Throws BusyError. */
  get kept(): { readonly waiting: readonly MmuTraceEvent[]; readonly lost: number } {
    if (this.#passingOn) throw new BusyError("not while events are passed on");
    return { waiting: this.#waiting, lost: this.#lost };
  }

  /** @internal Goes on with another ring and what waited there, for the same receiver. */
  adopt({ waiting, lost }: EventBuffer["kept"], ring: EventRing = this.#ring): void {
    this.#ring = ring;
    this.#waiting = [...waiting];
    this.#lost = lost;
  }

  /** @internal */
  get ring(): EventRing {
    return this.#ring;
  }

  /** Passes on what has been recorded since the last call; of a fault, whose error code has `high` above bit 31. */
  collect(vcpuId: number, high = 0n): void {
    if (this.#ring.count !== 0) this.#take(vcpuId, high);
    // The sink may itself use the VM: what that records comes after what is being passed on.
    if (this.#waiting.length !== 0 && !this.#passingOn) this.#passOn();
  }

  #take(vcpuId: number, high: bigint): void {
    if (this.sink === undefined) {
      // Nobody reads them, so nothing is decoded.
      this.#lost += this.#ring.drop();
      return;
    }
    const events: MmuTraceEvent[] = [];
    const fault = { vcpuId, high, writeProtected: this.#writeProtected };
    const lost = this.#ring.take((event) => events.push(decodeEvent(event, this.#masks, fault)));
    this.#lost += lost;
    if (lost !== 0) events.push({ ev: "lost_events", count: lost });
    if (this.#waiting.length === 0) this.#waiting = events;
    else for (const event of events) this.#waiting.push(event);
  }

  #passOn(): void {
    this.#passingOn = true;
    let next = 0;
    try {
      while (next < this.#waiting.length) {
        const event = this.#waiting[next++]!;
        this.sink?.(event);
      }
    } finally {
      this.#waiting = this.#waiting.slice(next);
      this.#passingOn = false;
    }
  }
}
