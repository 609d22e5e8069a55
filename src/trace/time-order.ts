/**
 * Whether times go on. Each processor's events are in order in every form of a trace (its buffer is), and programs that print
 * several processors' merge them by time, but for what trace_pipe had printed when an older event came: a moment. What goes
 * further back is another trace behind the first, or lines that someone sorted.
 */
import type { EventRecord } from "./events/record.js";

/** Seconds that one processor's events may be behind another's, */
const LATE = 1;
/** and behind its own: times are rounded. */
const ROUNDED = 2e-6;
/** Processors that are told apart. */
const MOST_CPUS = 8192;

export class TimeOrder {
  /** Events that are older than what was before them, and the line of the first. */
  back = 0;
  line = 0;
  /** The farthest, in seconds. */
  farthest = 0;
  /** Time of the last event. */
  last = Number.NEGATIVE_INFINITY;
  /** By processor, as far as they were seen. */
  readonly #byCpu: number[] = [];

  /** False where the event is older than it can be if the trace is one, and in order. */
  goesOn({ time, cpu, line }: EventRecord): boolean {
    const own = cpu >= 0 && cpu < MOST_CPUS ? cpu : 0;
    while (this.#byCpu.length <= own) this.#byCpu.push(Number.NEGATIVE_INFINITY);
    const late = Math.max(this.#byCpu[own]! - ROUNDED - time, this.last - LATE - time);
    this.#byCpu[own] = time;
    this.last = time;
    if (!(late > 0)) return true;
    // Every processor's times begin anew.
    this.#byCpu.fill(Number.NEGATIVE_INFINITY);
    this.#byCpu[own] = time;
    if (this.back++ === 0) this.line = line;
    this.farthest = Math.max(this.farthest, late);
    return false;
  }
}
