/**
 * What stands before an event's own text, in the three forms in which traces are printed:
 *
 *     <comm>-<pid>  (<tgid>) [<cpu>] <flags> <seconds>: <event>: ...        tracing/trace; tgid and flags by its options
 *     <comm>-<pid>  [<cpu>] <seconds>: <event>:        ...                  trace-cmd report
 *     <comm>  <pid> [<cpu>] <seconds>:    <system>:<event>: ...             perf script; or <pid>/<tid>
 *
 * A command's name may have any characters in it, so the processor is looked for: digits in brackets with a time behind them.
 */

const DIGIT_0 = "0".charCodeAt(0);
const DIGIT_9 = "9".charCodeAt(0);
const SPACE = " ".charCodeAt(0);
const TAB = 0x09;
const COLON = ":".charCodeAt(0);
const DOT = ".".charCodeAt(0);
const OPEN = "[".charCodeAt(0);
const CLOSE = "]".charCodeAt(0);
const PAREN = ")".charCodeAt(0);
const PAREN_OPEN = "(".charCodeAt(0);
const SLASH = "/".charCodeAt(0);
/** Commands have 15 characters, but a guest's name may stand before them (trace-cmd report of several files). */
const FURTHEST = 256;
/** Names of events are far shorter. */
const LONGEST_NAME = 128;
/** No clock's time is larger: nanoseconds, or a processor's counter, of many years. */
const LATEST = 1e19;
/** Of a fraction so many digits count. */
const FRACTION = 9;

const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= DIGIT_0 && byte <= DIGIT_9;
const isBlank = (byte: number | undefined): boolean => byte === SPACE || byte === TAB;

/** The parts of a line; those of the line that was parsed last. */
export class LineHeader {
  pid = -1;
  /** The process of the thread, where the line has it: `(tgid)`, or perf's `pid/tid`. */
  process = -1;
  cpu = -1;
  time = 0;
  /** Where the event's name lies, without its system, and a hash of it. */
  nameFrom = 0;
  nameTo = 0;
  hash = 0;
  /** Where the event's own text begins. */
  body = 0;
  /** A system was before the name, as perf prints it. */
  hasSystem = false;

  /** False where the line is no event. */
  parse(bytes: Uint8Array, from: number, to: number): boolean {
    const limit = Math.min(to, from + FURTHEST);
    for (let at = from; at < limit; at++) {
      if (bytes[at] !== OPEN || !isDigit(bytes[at + 1])) continue;
      let end = at + 1;
      let cpu = 0;
      while (end < limit && isDigit(bytes[end])) cpu = cpu * 10 + bytes[end++]! - DIGIT_0;
      if (bytes[end] !== CLOSE || !this.#rest(bytes, end + 1, to)) continue;
      this.cpu = cpu;
      this.#threadBefore(bytes, from, at);
      return true;
    }
    return false;
  }

  /** What ends before a processor: the thread, and perhaps its process behind or before it. */
  #threadBefore(bytes: Uint8Array, from: number, to: number): void {
    this.process = -1;
    let at = to - 1;
    while (at >= from && isBlank(bytes[at])) at--;
    if (bytes[at] === PAREN) {
      this.process = numberBefore(bytes, from, at - 1);
      while (at >= from && bytes[at] !== PAREN_OPEN) at--;
      at--;
      while (at >= from && isBlank(bytes[at])) at--;
    }
    this.pid = numberBefore(bytes, from, at);
    while (at >= from && isDigit(bytes[at])) at--;
    if (bytes[at] === SLASH && this.pid !== -1) this.process = numberBefore(bytes, from, at - 1);
  }

  /** From behind the processor: flags perhaps, the time, and the name. */
  #rest(bytes: Uint8Array, from: number, to: number): boolean {
    let at = from;
    while (at < to && isBlank(bytes[at])) at++;
    if (!isDigit(bytes[at])) {
      while (at < to && !isBlank(bytes[at])) at++;
      while (at < to && isBlank(bytes[at])) at++;
    }
    if (at >= to || !isDigit(bytes[at])) return false;
    let time = 0;
    while (at < to && isDigit(bytes[at])) time = time * 10 + bytes[at++]! - DIGIT_0;
    if (bytes[at] === DOT && at < to) {
      at++;
      let fraction = 0;
      let scale = 1;
      for (let digits = 0; at < to && isDigit(bytes[at]); at++) {
        if (digits++ >= FRACTION) continue;
        fraction = fraction * 10 + bytes[at]! - DIGIT_0;
        scale *= 10;
      }
      time += fraction / scale;
    }
    if (at >= to || bytes[at] !== COLON || time > LATEST) return false;
    this.time = time;
    return this.#name(bytes, at + 1, to);
  }

  #name(bytes: Uint8Array, from: number, to: number): boolean {
    let at = from;
    while (at < to && isBlank(bytes[at])) at++;
    const limit = Math.min(to, at + LONGEST_NAME);
    let start = at;
    let hash = 0;
    this.hasSystem = false;
    for (; at < limit; at++) {
      const byte = bytes[at]!;
      if (byte === SPACE) return false;
      if (byte !== COLON) {
        hash = (Math.imul(hash, 31) + byte) | 0;
        continue;
      }
      if (at + 1 >= to || isBlank(bytes[at + 1])) {
        if (at === start) return false;
        this.nameFrom = start;
        this.nameTo = at;
        this.hash = hash;
        let body = at + 1;
        while (body < to && isBlank(bytes[body])) body++;
        this.body = body;
        return true;
      }
      this.hasSystem = true;
      start = at + 1;
      hash = 0;
    }
    return false;
  }
}

/** The hash of a name, as `LineHeader` makes it. */
export function nameHash(name: string): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 31) + name.charCodeAt(i)) | 0;
  return hash;
}

/** The number whose last digit is at `last`; -1 where there is none. */
function numberBefore(bytes: Uint8Array, from: number, last: number): number {
  let number = 0;
  let scale = 1;
  let at = last;
  while (at >= from && isDigit(bytes[at])) {
    number += (bytes[at--]! - DIGIT_0) * scale;
    scale *= 10;
  }
  return at === last ? -1 : number;
}
