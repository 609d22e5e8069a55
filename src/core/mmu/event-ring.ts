/** The buffer of trace events that the core fills. */
import type { Allocations } from "../linear/allocations.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { EVENT_OFFSET, EventRecord, type VmRecord } from "../records/mmu.js";

/** Words of 32 bits of an event, and where in it they lie. */
const WORDS = EventRecord.SIZE / 4;
const TYPE = EVENT_OFFSET.type / 4;
const A = EVENT_OFFSET.a / 4;
const B = EVENT_OFFSET.b / 4;
const C = EVENT_OFFSET.c / 4;
const X = EVENT_OFFSET.x / 4;
const Y = EVENT_OFFSET.y / 4;
const Z = EVENT_OFFSET.z / 4;
/** Events that there is room for at first: a fault has about eight. */
const LEAST = 64;

export class EventRing {
  readonly #vm: VmRecord;
  /** Where events are taken to; made when the first is. */
  #taken: TakenEvent | undefined;
  readonly #linear: LinearMemory;

  /** No events are recorded with a `capacity` of 0. Throws OutOfMemoryError. */
  constructor(linear: LinearMemory, vm: VmRecord, memory: Allocations, capacity: number) {
    this.#vm = vm;
    this.#linear = linear;
    if (capacity !== 0) {
      vm.events = memory.take(capacity * EventRecord.SIZE);
      vm.eventCapacity = capacity;
    }
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

  /** Gives each event, which is good until the next one, and empties the ring; number of those that found no room in it. */
  take(each: (event: TakenEvent) => void): number {
    this.each(each);
    return this.drop();
  }

  /** @internal Gives each event, which is good until the next one. */
  each(each: (event: TakenEvent) => void): void {
    const { events, eventCount } = this.#vm;
    const words = eventCount * WORDS;
    let taken = this.#taken;
    if (taken === undefined || taken.words.length < words) {
      taken = new TakenEvent(Math.max(words, LEAST * WORDS));
      this.#taken = taken;
    }
    // What is read from here on is not looked up in linear memory field by field.
    const first = events >>> 3;
    taken.wide.set(this.#linear.u64.subarray(first, first + words / 2));
    for (taken.at = 0; taken.at < words; taken.at += WORDS) each(taken);
  }

  /** Empties the ring; number of events that found no room in it. */
  drop(): number {
    const { eventLost } = this.#vm;
    this.#vm.eventCount = 0;
    this.#vm.eventLost = 0;
    return eventLost;
  }
}

/** An event outside of linear memory; what nobody reads is not made. */
export class TakenEvent {
  readonly words: Uint32Array;
  readonly wide: BigUint64Array;
  /** Index of its first word. */
  at = 0;

  /** Room for events of so many words. */
  constructor(length: number) {
    this.words = new Uint32Array(length);
    this.wide = new BigUint64Array(this.words.buffer);
  }

  /** EV_* */
  get type(): number {
    return this.words[this.at + TYPE]!;
  }

  get a(): number {
    return this.words[this.at + A]!;
  }

  get b(): number {
    return this.words[this.at + B]!;
  }

  get c(): number {
    return this.words[this.at + C]!;
  }

  get x(): bigint {
    return this.wide[(this.at + X) / 2]!;
  }

  get y(): bigint {
    return this.wide[(this.at + Y) / 2]!;
  }

  get z(): bigint {
    return this.wide[(this.at + Z) / 2]!;
  }

  /** Bits 31:0 of `y`. */
  get yLow(): number {
    return this.words[this.at + Y]!;
  }

  /** Bits 63:32 of `y`. */
  get yHigh(): number {
    return this.words[this.at + Y + 1]!;
  }
}
