/** Lines of a trace's text that are no events: what they say of the trace, and those that say nothing. */
import { latin1 } from "../events/cursor.js";

/** So much of a line is quoted. */
const QUOTED = 160;
const SAMPLES = 3;
const HASH = "#".charCodeAt(0);
const SPACE = " ".charCodeAt(0);
const TAB = 0x09;

export interface SampleLine {
  readonly line: number;
  readonly text: string;
}

export class Notices {
  /** Events that were lost, as far as they were counted, and places where some were without a number. */
  lost = 0;
  lostPlaces = 0;
  /** Of the header of tracing/trace: events in the buffer, and all that were written to it. */
  inBuffer: number | undefined;
  written: number | undefined;
  /** The release of the kernel, as perf writes it. */
  release: string | undefined;
  /** trace-cmd printed it: it says how many processors there are. */
  isReport = false;
  /** Lines that are neither events nor known remarks. */
  unreadable = 0;
  readonly samples: SampleLine[] = [];
  /** Stacks and the like, which belong to the event before. */
  continuations = 0;

  /** A line that is no event. */
  take(bytes: Uint8Array, from: number, to: number, line: number): void {
    if (to === from) return;
    const text = latin1(bytes, from, Math.min(to, from + QUOTED));
    if (bytes[from] === HASH) this.#comment(text);
    else if (this.#remark(text)) return;
    else if ((bytes[from] === TAB || bytes[from] === SPACE) && /^\s+(?:=> |[0-9a-f]+ )/.test(text))
      this.continuations++;
    else this.bad(text, line);
  }

  /** A line that cannot be understood. */
  bad(text: string, line: number): void {
    this.unreadable++;
    if (this.samples.length < SAMPLES) this.samples.push({ line, text: text.slice(0, QUOTED) });
  }

  #comment(text: string): void {
    const entries = /^# entries-in-buffer\/entries-written: (\d{1,15})\/(\d{1,15})/.exec(text);
    if (entries !== null) {
      this.inBuffer = (this.inBuffer ?? 0) + Number(entries[1]);
      this.written = (this.written ?? 0) + Number(entries[2]);
    }
    this.release ??= /^# os release : (\S+)/.exec(text)?.[1];
  }

  /** Lost events as the kernel, trace-cmd and perf tell them; headers of trace-cmd. */
  #remark(text: string): boolean {
    const lost =
      /^CPU:\d+ \[(?:LOST )?(?:(\d{1,15}) )?EVENTS(?: DROPPED)?\]/.exec(text) ??
      /PERF_RECORD_LOST lost (\d{1,15})/.exec(text) ??
      /Processed \d+ events and lost (\d{1,15}) chunks/.exec(text);
    if (lost !== null) {
      this.lostPlaces++;
      this.lost += Number(lost[1] ?? 0);
      return true;
    }
    if (text.startsWith("cpus=")) this.isReport = true;
    return /^(?:cpus=\d+|version = \d+|CPU \d+ is empty|trace-cmd: |\[.*\]$|\S+:$|<stack trace>)/.test(text);
  }
}
