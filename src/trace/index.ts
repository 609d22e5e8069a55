/**
 * `x86-paging/trace`: what a stock kernel's traces of KVM's MMU tell. Text of tracing/trace, `trace-cmd report` and `perf
 * script`, and trace.dat files; of Linux 4.19 and later. Runs in browsers.
 */
import { TraceAnalysis, type TraceOptions } from "./analysis.js";
import { checkKernel } from "./era.js";
import { TraceError } from "./error.js";
import { checkRole } from "./filter.js";
import { openTrace, type TraceInput } from "./input/input.js";
import { readDat } from "./read-dat.js";
import { readText } from "./read-text.js";
import type { PageRow, TraceReport } from "./report.js";

export type { TraceOptions } from "./analysis.js";
export type { KernelRange } from "./era.js";
export { TraceError } from "./error.js";
export { KINDS, type KindName, SLOTS, type SlotName } from "./events/kinds.js";
export type { EventRecord, TextSource } from "./events/record.js";
export type { TraceFilter } from "./filter.js";
export { type EvidenceLine, FINDING_CODES, type Finding, type FindingCode } from "./findings/finding.js";
export * as thresholds from "./findings/thresholds.js";
export type { RandomAccess, TraceInput } from "./input/input.js";
export type { FaultRow, TimeRow, VcpuRow } from "./model/summary.js";
export { OUTCOMES, type Outcome } from "./model/thread.js";
export type * from "./report.js";

/** A report, and the pages that it is about. */
export interface AnalysedTrace {
  readonly report: TraceReport;
  /** Pages that the trace has shown, those that are left at its end first. */
  pages(): PageRow[];
}

/**
 * Reads a trace and says what went on in it. Memory does not grow with its length: what is kept is bounded, and what is
 * beyond is counted in the warnings.
 * @throws TraceError where it cannot be read, or no event of KVM is in it; ConfigError for a kernel that is not known, and for a
 * role that no kernel prints.
 */
export async function analyseTrace(input: TraceInput, options: TraceOptions = {}): Promise<AnalysedTrace> {
  const { name = "trace", onProgress } = options;
  checkKernel(options.kernel);
  checkRole(options.role);
  let taken = 0;
  let broken = false;
  const opened = await openTrace(input, name, {
    taken: (bytes) => {
      taken += bytes;
      onProgress?.(taken);
    },
    brokeOff: () => {
      broken = true;
    },
  });
  const analysis = new TraceAnalysis(options);
  const progress = onProgress === undefined ? {} : { onProgress };
  const source =
    opened.kind === "dat" ? await readDat(opened, analysis, { name, ...progress }) : await readText(opened, analysis);
  const damage = "the gzip data break off or are damaged, or something else follows them: what is behind is missing";
  if (broken) source.truncations.push(damage);
  if (source.events === 0) {
    const what = source.present > 0 ? `found ${source.present} events, none of them of KVM` : "found none";
    throw new TraceError(
      name,
      `expected events of KVM (text of tracing/trace, trace-cmd report or perf script, or a trace.dat file), ${what}${broken ? `; ${damage}` : ""}`,
    );
  }
  return { report: analysis.report(source), pages: () => analysis.pages() };
}
