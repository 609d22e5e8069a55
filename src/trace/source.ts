/** What a reader says of the file that it has read. */
import type { FormatEra } from "./dat/format-era.js";
import type { TraceFormat } from "./report.js";
import type { SampleLine } from "./text/notices.js";

export interface TraceSource {
  readonly format: TraceFormat;
  readonly packed: boolean;
  /** Kernel release as the file has it. */
  readonly release: string | undefined;
  /** What formats of events in the file tell of the kernel. */
  readonly formats?: FormatEra;
  readonly lines: number;
  readonly events: number;
  readonly otherEvents: Readonly<Record<string, number>>;
  /** Lines and events that could not be understood, and the first of them. */
  readonly unreadable: number;
  readonly samples: readonly SampleLine[];
  readonly lost: number;
  /** Places where events were lost. */
  readonly lostPlaces: number;
  /** Events that were overwritten before the trace was read. */
  readonly overwritten: number;
  /** Events that the header counts; undefined where there is none. */
  readonly announced: number | undefined;
  /** All events that are there, of any kind. */
  readonly present: number;
  /** What breaks off, each a sentence. */
  readonly truncations: readonly string[];
  /** What is damaged. */
  readonly damage: readonly string[];
}
