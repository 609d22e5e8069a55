/** What is said of a trace: where it is from, what went on, what pages there are, and what was found. */
import type { KernelRange } from "./era.js";
import type { Finding } from "./findings/finding.js";
import type { FaultRow, TimeRow, VcpuRow } from "./model/summary.js";

/** The forms of traces that are read. */
export const TRACE_FORMATS = ["tracing/trace", "trace-cmd report", "perf script", "trace.dat"] as const;
/** The form of a trace. */
export type TraceFormat = (typeof TRACE_FORMATS)[number];

/** Stable names of what can be amiss with a trace. */
export type WarningCode =
  /** The file ends within a line, a page or a compressed stream. */
  | "truncated"
  /** Parts of the file are not what they should be, and were passed over. */
  | "damaged"
  /** The kernel (or perf) lost events, or overwrote the oldest. */
  | "lost-events"
  /** The header counts more events than there are: filtered, or cut off. */
  | "fewer-events"
  /** There was too much to follow all of it. */
  | "too-much"
  /** Times go back: several traces in one file, or lines out of their order. */
  | "out-of-order"
  /** Texts of events are those of different kernels. */
  | "several-kernels"
  /** There are several virtual machines; they are told apart by their threads. */
  | "several-vms"
  /** Something that is looked for leaves no events in such a trace. */
  | "not-seen";

/** What the reader has to say of a trace: what is missing, damaged, or cannot be seen. */
export interface TraceWarning {
  readonly code: WarningCode;
  readonly message: string;
}

/** Pages of one role. */
export interface RoleRow {
  /** As the kernel prints it. */
  readonly role: string;
  readonly level: number;
  readonly direct: boolean;
  /** At the end of the trace. */
  readonly live: number;
  readonly unsync: number;
  readonly made: number;
  readonly found: number;
  readonly zapped: number;
  readonly synced: number;
  readonly unsynced: number;
}

/** One page, or several whose roles differ in nothing that a trace shows. */
export interface PageRow {
  /** Which virtual machine, where the trace has several. */
  readonly vm?: string;
  readonly gfn: number;
  readonly role: string;
  readonly live: number;
  readonly unsync: number;
  readonly made: number;
  readonly found: number;
  readonly zapped: number;
  /** It was there before the trace began. */
  readonly before: boolean;
  /** How often it was loaded as a root: found roots of the TDP MMU are not traced. */
  readonly loads: number;
  /** The page above, as far as it was seen. */
  readonly parent?: { readonly gfn: number; readonly role: string };
  /** Whole role words, where the file has them. */
  readonly words?: readonly number[];
}

/** What happened, in numbers. */
export interface TraceSummary {
  /** Events of each kind that is known. */
  readonly events: Readonly<Record<string, number>>;
  readonly faults: readonly FaultRow[];
  readonly walks: { readonly walks: number; readonly entries: number; readonly errors: number };
  readonly mmio: {
    readonly marked: number;
    readonly handled: number;
    readonly checked: number;
    readonly stale: number;
  };
  readonly fastFaults: { readonly tried: number; readonly fixed: number; readonly spurious: number };
  readonly pages: { readonly made: number; readonly found: number; readonly zapped: number; readonly zapAlls: number };
  readonly sync: { readonly unsynced: number; readonly synced: number };
  readonly switches: Readonly<Record<string, number>>;
  readonly roles: readonly RoleRow[];
  /** Pages that were loaded as roots, the most frequent first. */
  readonly roots: readonly PageRow[];
  readonly vcpus: readonly VcpuRow[];
  readonly times: readonly TimeRow[];
}

/** All that a trace tells. */
export interface TraceReport {
  readonly name: string;
  readonly format: TraceFormat;
  readonly packed: boolean;
  readonly kernel: KernelRange;
  /** Lines of a text, events of a trace.dat file. */
  readonly lines: number;
  /** Events of the known kinds. */
  readonly events: number;
  /** Other events, by name. */
  readonly otherEvents: Readonly<Record<string, number>>;
  /** Lines and events that could not be understood. */
  readonly unreadable: number;
  /** Events that were lost, as far as they were counted. */
  readonly lost: number;
  /** Seconds of the first and the last event. */
  readonly from: number | undefined;
  readonly to: number | undefined;
  readonly warnings: readonly TraceWarning[];
  readonly summary: TraceSummary;
  readonly findings: readonly Finding[];
}
