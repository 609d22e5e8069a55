/** A trace's report as lines for a terminal. */

import { type FaultRow, type Finding, OUTCOMES, type PageRow, type TraceReport } from "../trace/index.js";
import type { Styler } from "./style.js";

const number = (value: number): string => value.toLocaleString("en-US");
const seconds = (value: number): string => value.toFixed(6);

/** Rows with columns of one width; all but the first are aligned to the right. */
function table(rows: readonly (readonly string[])[], leftmost = 1): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, column) => (column < leftmost ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

const indented = (lines: readonly string[]): string[] => lines.map((line) => `  ${line}`);

/** The report. `style` marks headings and findings. */
export function* reportLines(report: TraceReport, style: Styler): IterableIterator<string> {
  yield* headLines(report);
  for (const { message } of report.warnings) yield `${style("yellow", "warning")}: ${message}`;
  yield* summaryLines(report, style);
  yield "";
  if (report.findings.length === 0) yield "no findings";
  for (const finding of report.findings) yield* findingLines(finding, style);
}

function* headLines(report: TraceReport): IterableIterator<string> {
  const { kernel, from, to } = report;
  const range =
    kernel.release ??
    (kernel.oldest === undefined && kernel.newest === undefined
      ? undefined
      : kernel.newest === undefined
        ? `${kernel.oldest} or later`
        : kernel.oldest === undefined
          ? `${kernel.newest} or earlier`
          : `${kernel.oldest} to ${kernel.newest}`);
  const because = kernel.because.length === 0 ? "" : ` (${kernel.because.join("; ")})`;
  yield `${report.name}: ${report.format}${report.packed ? ", gzip" : ""}; Linux ${range ?? "of an unknown release"}${because}`;
  const others = Object.values(report.otherEvents).reduce((sum, events) => sum + events, 0);
  const span = from === undefined || to === undefined ? "" : `; ${seconds(from)} to ${seconds(to)} s`;
  yield `${number(report.events)} events of KVM in ${number(report.lines)} ${report.format === "trace.dat" ? "records" : "lines"}, ${number(others)} others${span}`;
}

function* summaryLines({ summary }: TraceReport, style: Styler): IterableIterator<string> {
  const heading = (text: string) => style("bold", text);
  if (summary.faults.length > 0) {
    yield "";
    yield heading("page faults, by kind and outcome");
    const used = OUTCOMES.filter((outcome) => summary.faults.some(({ outcomes }) => outcomes[outcome] > 0));
    const rows = summary.faults.map((row) => [
      faultName(row),
      number(OUTCOMES.reduce((sum, outcome) => sum + row.outcomes[outcome], 0)),
      ...used.map((outcome) => (row.outcomes[outcome] === 0 ? "." : number(row.outcomes[outcome]))),
    ]);
    yield* indented(table([["", "all", ...used], ...rows]));
  }
  yield "";
  yield heading("the MMU");
  yield* indented(table(countRows(summary)));
  if (summary.roles.length > 0) {
    yield "";
    yield heading("pages, by role");
    const head = ["", "made", "found", "zapped", "unsynced", "synced", "left", "of them unsync"];
    const rows = summary.roles.map((row) => [
      row.role,
      ...[row.made, row.found, row.zapped, row.unsynced, row.synced, row.live, row.unsync].map(number),
    ]);
    yield* indented(table([head, ...rows]));
  }
  if (summary.roots.length > 0) {
    yield "";
    yield heading("roots");
    const rows = summary.roots
      .slice(0, SHOWN_ROOTS)
      .map(({ gfn, role, loads, made, live }) => [
        gfn.toString(16),
        role,
        `loaded ${number(loads)} times, made ${number(made)}`,
        live > 0 ? "there" : "gone",
      ]);
    yield* indented(table(rows, 4));
    if (summary.roots.length > SHOWN_ROOTS) yield `  ... ${number(summary.roots.length - SHOWN_ROOTS)} more`;
  }
  if (summary.vcpus.length > 0) {
    yield "";
    yield heading("by vCPU");
    const rows = summary.vcpus.map(({ vcpu, events, entries, faults, walks }) => [
      vcpu === -1 ? "none" : `vCPU ${vcpu}`,
      ...[events, entries, faults, walks].map(number),
    ]);
    yield* indented(table([["", "events", "entries", "faults", "walks"], ...rows]));
  }
  yield* timeLines(summary, heading);
}

function countRows(summary: TraceReport["summary"]): string[][] {
  const { walks, mmio, fastFaults, pages, sync, switches } = summary;
  const switched = Object.entries(switches).map(([kind, times]) => `${number(times)} ${kind}`);
  return [
    [
      "guest walks",
      `${number(walks.walks)}, of which ${number(walks.errors)} failed; ${number(walks.entries)} entries read`,
    ],
    [
      "MMIO",
      `${number(mmio.marked)} entries marked, ${number(mmio.handled)} accesses handled, ${number(mmio.checked)} entries checked (${number(mmio.stale)} stale)`,
    ],
    [
      "fast faults",
      `${number(fastFaults.tried)}, of which ${number(fastFaults.fixed)} fixed, ${number(fastFaults.spurious)} spurious`,
    ],
    [
      "pages",
      `${number(pages.made)} made, ${number(pages.found)} found, ${number(pages.zapped)} zapped; ${number(pages.zapAlls)} zap-alls`,
    ],
    ["sync", `${number(sync.unsynced)} pages unsynced, ${number(sync.synced)} synced`],
    ...(switched.length > 0 ? [["switches", switched.join(", ")]] : []),
  ].map(([name, text]) => [name!.padEnd(12) + text!]);
}

function faultName({ format, access, present, reserved }: FaultRow): string {
  return `${format} ${access}, ${reserved ? "reserved bits" : present ? "present" : "not present"}`;
}

const SHOWN_ROOTS = 16;
const BAR = 40;

function* timeLines({ times }: TraceReport["summary"], heading: (text: string) => string): IterableIterator<string> {
  if (times.length < 2) return;
  yield "";
  yield heading("by time");
  const most = Math.max(...times.map(({ events }) => events));
  const rows = times.map(({ from, events, faults, zaps }) => [
    `${seconds(from)} s`,
    ...[events, faults, zaps].map(number),
    "#".repeat(Math.ceil((events / most) * BAR)).padEnd(BAR),
  ]);
  yield* indented(table([["from", "events", "faults", "zaps", "".padEnd(BAR)], ...rows]));
}

function* findingLines(finding: Finding, style: Styler): IterableIterator<string> {
  const { code, message, details, since, until, evidence, count } = finding;
  yield `${style("red", code)}: ${message}`;
  for (const detail of details) yield `    ${detail}`;
  yield `    from ${seconds(since)} to ${seconds(until)} s; the first lines of it:`;
  for (const { line, text } of evidence) yield `    ${line}: ${text}`;
  if (count > evidence.length) yield `    ...`;
}

/** Pages, one a line. */
export function* pageLines(pages: readonly PageRow[], show: number): IterableIterator<string> {
  yield "";
  yield "pages";
  const rows = pages
    .slice(0, show)
    .map((page) => [
      page.gfn.toString(16),
      page.role,
      page.live === 0 ? "gone" : page.live === 1 ? "there" : `${page.live} there`,
      page.unsync > 0 ? "unsync" : "",
      `${page.made} made, ${page.found} found, ${page.zapped} zapped`,
      page.parent === undefined ? "" : `below ${page.parent.gfn.toString(16)} (${page.parent.role})`,
      page.vm ?? "",
    ]);
  yield* indented(table(rows, 7));
  if (pages.length > show) yield `  ... ${number(pages.length - show)} more`;
}
