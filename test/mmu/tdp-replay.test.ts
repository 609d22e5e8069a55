import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { engineTarget } from "../../src/recording/engine-target.js";
import { readRecording } from "../../src/recording/reader.js";
import { replay } from "../../src/recording/replayer.js";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures", "tdp-recordings");

/** Recordings with the TDP MMU: NPT, EPT with and without A/D bits, with and without PML, NX-huge-page mitigation. */
const RECORDINGS = readdirSync(folder).flatMap((scenario) =>
  readdirSync(join(folder, scenario)).map((configuration) => join(scenario, configuration)),
);

describe("recordings of Linux 6.1's TDP MMU", () => {
  it("are there", () => {
    expect(RECORDINGS.length).toBeGreaterThan(10);
  });

  it.each(RECORDINGS)("%s: events, results and state after each step are equal", (name) => {
    const report = replay(readRecording(join(folder, name)), engineTarget);
    expect(report.failure).toBeUndefined();
    expect(report.differences).toEqual([]);
    expect(report.steps).toBe(report.recording.steps.length);
  });
});
