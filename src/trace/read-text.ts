/** A trace's text, as a source. */
import type { TraceAnalysis } from "./analysis.js";
import { releaseIn } from "./era.js";
import type { OpenedTrace } from "./input/input.js";
import type { TraceSource } from "./source.js";
import { TextReader } from "./text/text-reader.js";

/** Reads all of a text into the analysis. */
export async function readText(
  opened: Extract<OpenedTrace, { kind: "text" }>,
  analysis: TraceAnalysis,
): Promise<Omit<TraceSource, "truncations"> & { readonly truncations: string[] }> {
  const reader = new TextReader(
    analysis.parser,
    (record) => analysis.take(record),
    () => analysis.lost(),
  );
  let known = false;
  for await (const chunk of opened.chunks) {
    reader.push(chunk);
    if (known || reader.notices.release === undefined) continue;
    known = true;
    analysis.useKernel(releaseIn(reader.notices.release));
  }
  reader.finish();
  const { notices } = reader;
  const names = reader.names;
  let present = reader.otherNames;
  for (const events of names.values()) present += events;
  const otherEvents = Object.fromEntries([...reader.others].sort(([, a], [, b]) => b - a));
  return {
    format: reader.hasSystems ? "perf script" : notices.isReport ? "trace-cmd report" : "tracing/trace",
    packed: opened.packed,
    release: notices.release,
    lines: reader.lines,
    events: reader.events,
    otherEvents: { ...otherEvents, ...(reader.otherNames > 0 && { "(others)": reader.otherNames }) },
    unreadable: notices.unreadable,
    samples: notices.samples,
    lost: notices.lost,
    lostPlaces: notices.lostPlaces,
    overwritten: Math.max(0, (notices.written ?? 0) - (notices.inBuffer ?? 0)),
    announced: notices.inBuffer,
    present,
    truncations: reader.brokenOff ? ["the last line does not end: the file may break off there"] : [],
    damage: reader.overlong > 0 ? [`${reader.overlong} lines are too long to be events, and were passed over`] : [],
  };
}
