/** Times of a trace.dat file's events in seconds, rounded to microseconds as the kernel and trace-cmd print them. */
import type { DatHead } from "./head.js";

/** Clocks that count nanoseconds (is_timestamp_in_us of libtraceevent); others count what they count. */
const NANOSECONDS = /^(?:local|global|uptime|perf|boot|tai|mono.*)$/;
const SECOND = 1_000_000_000n;
const MICRO = 1000;
const MICROS = 1_000_000;

export class Clock {
  readonly #offset: bigint;
  readonly #scale: DatHead["scale"];
  readonly #counts: boolean;
  /** Of the page: whole seconds, and the nanoseconds beyond. */
  #seconds = 0;
  #nanoseconds = 0;
  #base = 0n;

  constructor({ offset, scale, clock }: Pick<DatHead, "offset" | "scale" | "clock">) {
    this.#offset = offset;
    this.#scale = scale;
    this.#counts = clock !== undefined && !NANOSECONDS.test(clock);
  }

  /** Begins with a page, or an absolute time within one. */
  base(time: bigint): void {
    this.#base = time;
    const shifted = time + this.#offset;
    this.#seconds = Number(shifted / SECOND);
    this.#nanoseconds = Number(shifted % SECOND);
  }

  /** Seconds at `delta` counts behind the base. */
  at(delta: number): number {
    if (this.#counts) {
      const counts = this.#base + BigInt(delta);
      const scale = this.#scale;
      if (scale === undefined) return Number(counts + this.#offset);
      const time = ((counts * BigInt(scale.multiplier)) >> BigInt(scale.shift)) + scale.offset + this.#offset;
      return fromNanoseconds(Number(time / SECOND), Number(time % SECOND));
    }
    return fromNanoseconds(this.#seconds, this.#nanoseconds + delta);
  }
}

function fromNanoseconds(seconds: number, nanoseconds: number): number {
  const micros = Math.floor((nanoseconds + MICRO / 2) / MICRO);
  return seconds + Math.floor(micros / MICROS) + (micros % MICROS) / MICROS;
}
