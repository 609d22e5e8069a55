/** One event, in a record that readers fill again and again: who keeps it, copies it. */
import { KINDS, SLOTS } from "./kinds.js";

const HIGH = 2 ** 32;

/** Where an event's text is still to be had. */
export interface TextSource {
  /** The event as the trace has it. */
  textOf(record: EventRecord): string;
}

/** One event as it is read; it is used again for the next. */
export class EventRecord {
  /** See `KINDS`. */
  kind = 0;
  /** Line of a text, number of the event in a trace.dat file; from 1. */
  line = 0;
  /** Seconds; of a clock that counts something else, counts. */
  time = 0;
  /** -1 where the text does not say. */
  cpu = -1;
  /** Thread; -1 where the text does not say. */
  pid = -1;
  /** Process (thread group); -1 where the text does not say. */
  process = -1;
  /** It is of the time that is asked for; what is not makes known what there was before. */
  counted = true;
  /** A page's whole role word, where the file has it; -1 where it has only what the kernel's text shows. */
  word = -1;
  /** The low and the high half of each field, by slot. */
  readonly low = new Uint32Array(SLOTS.length);
  readonly high = new Uint32Array(SLOTS.length);
  /** One for each field that the event has. */
  readonly has = new Uint8Array(SLOTS.length);
  /** The text that the reader is at: what `text` shows. */
  source: TextSource | undefined;

  /** Forgets the fields of the event before. */
  clear(): void {
    this.has.fill(0);
    this.word = -1;
  }

  /** Sets a field. */
  set(slot: number, low: number, high: number): void {
    this.low[slot] = low;
    this.high[slot] = high;
    this.has[slot] = 1;
  }

  /** A field as a number: exact up to 2^53, which frame numbers are far below. 0 where the event does not have it. */
  number(slot: number): number {
    return this.has[slot] === 1 ? this.high[slot]! * HIGH + this.low[slot]! : 0;
  }

  /** A field as a bigint; 0n where the event does not have it. */
  big(slot: number): bigint {
    return this.has[slot] === 1 ? (BigInt(this.high[slot]!) << 32n) | BigInt(this.low[slot]!) : 0n;
  }

  /** The event as its file shows it. */
  get text(): string {
    return this.source?.textOf(this) ?? KINDS[this.kind]!;
  }
}
