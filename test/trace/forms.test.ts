/** One run in every form in which traces come: the same numbers, pages and findings. */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { type AnalysedTrace, analyseTrace, type TraceInput } from "../../src/trace/index.js";
import { NAMES, RECORDINGS } from "../recording/fixtures.js";
import { datVersion6, datVersion7 } from "./writers/dat-writer.js";
import { recordedEvents } from "./writers/events.js";
import { LAYOUTS } from "./writers/formats.js";
import { ftraceText, perfText, rawReportText, reportText } from "./writers/text-writer.js";

/** What must not depend on the form: all but how the lines look, and whether a role word is whole. */
function contentOf({ report, pages }: AnalysedTrace) {
  const { summary, findings, events, from, to, unreadable, lost } = report;
  return {
    ...{ summary, events, from, to, unreadable, lost },
    findings: findings.map(({ evidence, ...finding }) => ({ ...finding, lines: evidence.length })),
    pages: pages().map(({ words, ...page }) => page),
  };
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe.each(NAMES)("%s", (name) => {
  const events = recordedEvents(join(RECORDINGS, name)).filter(({ name: event }) => LAYOUTS.has(event));
  let wanted: ReturnType<typeof contentOf>;

  beforeAll(async () => {
    wanted = contentOf(await analyseTrace(ftraceText(events)));
    expect(wanted.events).toBe(events.length);
    expect(wanted.unreadable).toBe(0);
  });

  const forms: readonly (readonly [string, string, () => TraceInput])[] = [
    ["trace-cmd report", "trace-cmd report", () => reportText(events)],
    ["trace-cmd report -N", "trace-cmd report", () => rawReportText(events)],
    ["perf script", "perf script", () => perfText(events)],
    ["trace.dat version 6", "trace.dat", () => datVersion6(events)],
    ["trace.dat version 7", "trace.dat", () => datVersion7(events)],
    ["trace.dat version 7, compressed", "trace.dat", () => datVersion7(events, true)],
    ["text in gzip", "tracing/trace", () => gzipSync(ftraceText(events))],
    ["trace.dat in gzip", "trace.dat", () => gzipSync(datVersion6(events))],
    ["a Blob", "trace.dat", () => new Blob([datVersion6(events)])],
    ["a Blob of text", "tracing/trace", () => new Blob([ftraceText(events)])],
    ["pieces of 7 bytes", "tracing/trace", () => inPieces(new TextEncoder().encode(ftraceText(events)), 7)],
    ["pieces of a trace.dat", "trace.dat", () => inPieces(datVersion7(events), 5000)],
  ];

  it.each(forms)("is the same as %s", async (_, format, make) => {
    const traced = await analyseTrace(make());
    expect(traced.report.format).toBe(format);
    expect(traced.report.warnings.filter(({ code }) => code !== "not-seen")).toEqual([]);
    expect(contentOf(traced)).toEqual(wanted);
  });
});
