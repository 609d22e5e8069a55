/** What is found in a trace, and that each finding's lines are those of the text. */
import { expect } from "vitest";
import { analyseTrace, type Finding, type TraceOptions } from "../../src/trace/index.js";
import type { TraceScript } from "./writers/script.js";

export async function findingsOf(
  script: TraceScript | string,
  options: TraceOptions = {},
): Promise<readonly Finding[]> {
  const text = typeof script === "string" ? script : script.text;
  const { report } = await analyseTrace(text, options);
  const lines = text.split("\n");
  for (const { evidence } of report.findings) {
    expect(evidence.length).toBeGreaterThan(0);
    for (const { line, text: shown } of evidence) expect(lines[line - 1]!.trim()).toBe(shown);
  }
  return report.findings;
}

export const codesOf = async (script: TraceScript | string, options: TraceOptions = {}) =>
  (await findingsOf(script, options)).map(({ code }) => code);

export const warningsOf = async (script: TraceScript | string, options: TraceOptions = {}) =>
  (await analyseTrace(typeof script === "string" ? script : script.text, options)).report.warnings;
