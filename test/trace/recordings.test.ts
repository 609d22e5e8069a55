/**
 * Pages, roles and counts that are reconstructed from a trace, against what the recording saw; and that recordings, in which
 * nothing is wrong, give no finding but those that are true of them. TRACE_RECORDINGS names a folder of recordings that are
 * compared as well: all below it.
 */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findRecordings } from "../../src/recording/index.js";
import { analyseTrace } from "../../src/trace/index.js";
import { NAMES, RECORDINGS } from "../recording/fixtures.js";
import { compareSteps, readRecorded, stockText } from "./recorded.js";

describe.each(NAMES)("%s", (name) => {
  const recorded = readRecorded(join(RECORDINGS, name));

  it("has the pages of the recording after each step", () => {
    const { steps, differences } = compareSteps(recorded);
    expect(differences).toEqual([]);
    expect(steps).toBe(recorded.snapshots.size);
  });

  it("gives no finding, and counts every line", async () => {
    const { report } = await analyseTrace(stockText(recorded.text), { name });
    expect(report.findings).toEqual([]);
    expect(report.unreadable).toBe(0);
    expect(report.summary.events).toMatchObject(recorded.events);
    expect(
      report.warnings.map(({ code }) => code).filter((code) => code !== "fewer-events" && code !== "not-seen"),
    ).toEqual([]);
  });
});

const { TRACE_RECORDINGS } = process.env;

/** A campaign of its own: there where a folder is named. */
if (TRACE_RECORDINGS !== undefined)
  describe("all recordings", () => {
    /** What a scenario does on purpose: it maps a page table under four combinations of rights. */
    const EXPECTED: Readonly<Record<string, string>> = {
      a5b_lm4_nonleaf_wp0: "many-roles",
      f3_lm5_nonleaf: "many-roles",
    };

    it("have the pages of the recording after each step", async () => {
      const total = { recordings: 0, steps: 0, pages: 0, roots: 0, unseenRoots: 0, findings: 0, events: 0 };
      const wrong: string[] = [];
      for (const folder of findRecordings(TRACE_RECORDINGS!)) {
        const recorded = readRecorded(folder);
        const { steps, pages, roots, unseenRoots, differences } = compareSteps(recorded);
        const { report } = await analyseTrace(stockText(recorded.text), { name: folder });
        wrong.push(...differences.map((difference) => `${folder}: ${difference}`));
        const expected = Object.entries(EXPECTED).find(([scenario]) => folder.includes(scenario))?.[1];
        wrong.push(
          ...report.findings.filter(({ code }) => code !== expected).map(({ message }) => `${folder}: ${message}`),
        );
        for (const [kind, events] of Object.entries(recorded.events)) {
          const counted = report.summary.events[kind] ?? 0;
          if (counted !== events) wrong.push(`${folder}: ${counted} ${kind}, ${events} recorded`);
        }
        if (report.unreadable > 0) wrong.push(`${folder}: ${report.unreadable} unreadable lines`);
        total.recordings++;
        total.steps += steps;
        total.pages += pages;
        total.roots += roots;
        total.unseenRoots += unseenRoots;
        total.findings += report.findings.length;
        total.events += report.events;
      }
      console.log(JSON.stringify(total));
      expect(wrong).toEqual([]);
    }, 600_000);
  });
