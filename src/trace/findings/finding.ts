/** What a finding is, and the lines that show it. */
import type { EventRecord } from "../events/record.js";
import type { Pages } from "../model/pages.js";

/** Stable names of what can be found; docs/traces.md says what each means and what to do about it. */
export const FINDING_CODES = [
  "roots-rebuilt",
  "page-churn",
  "many-roles",
  "spurious-faults",
  "huge-page-split",
  "zap-all-storm",
  "impossible-role",
  "spte-contradicts-role",
  "sync-other-role",
] as const;
/** What a finding is, by a name that stays. */
export type FindingCode = (typeof FINDING_CODES)[number];

/** A line of the trace that shows a finding. */
export interface EvidenceLine {
  /** Line of a text, number of the event in a trace.dat file; from 1. */
  readonly line: number;
  readonly text: string;
}

/** Something that went wrong, or costs more than it should. */
export interface Finding {
  readonly code: FindingCode;
  /** One sentence. */
  readonly message: string;
  /** What is behind it, as far as the trace tells; each a sentence. */
  readonly details: readonly string[];
  /** How often. */
  readonly count: number;
  readonly vcpu?: number;
  /** Which virtual machine, where the trace has several: `process 3999`, or a thread that runs a vCPU of it. */
  readonly vm?: string;
  readonly gfn?: number;
  /** As the kernel prints it. */
  readonly role?: string;
  /** Fields of the role in which two differ, each with both values. */
  readonly fields?: readonly string[];
  /** Seconds of the first and the last of the events. */
  readonly since: number;
  readonly until: number;
  readonly evidence: readonly EvidenceLine[];
}

/** A finding, with what only other detectors and the report's filters ask. */
export interface Found extends Finding {
  /** The pages of the virtual machine that it is about. */
  readonly owner?: Pages | undefined;
}

/** Lines that are kept of one finding: the first ones. */
const KEPT = 6;

/** The events of one finding: how many, when, and the text of the first. Only those of the time that is asked for. */
export class Evidence {
  count = 0;
  since = 0;
  until = 0;
  readonly lines: EvidenceLine[] = [];

  add(record: EventRecord): void {
    if (!record.counted) return;
    if (this.count === 0) this.since = record.time;
    this.until = record.time;
    this.count++;
    this.show(record);
  }

  /** Counts an event like those whose lines are kept. */
  again(record: EventRecord): void {
    if (this.count === 0 || !record.counted) this.add(record);
    else {
      this.count++;
      this.until = record.time;
    }
  }

  /** Keeps the line as one that shows what happened, without counting it. */
  show(record: EventRecord): void {
    if (this.lines.length >= KEPT || this.lines.at(-1)?.line === record.line) return;
    this.lines.push({ line: record.line, text: record.text });
  }

  /** Forgets what was: it was too long ago to belong to what follows. */
  clear(): void {
    this.count = 0;
    this.lines.length = 0;
  }
}
