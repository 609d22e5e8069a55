import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { engineTarget } from "../../src/recording/engine-target.js";
import { readRecording } from "../../src/recording/reader.js";
import { replay } from "../../src/recording/replayer.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures");

/** Recordings of the classic direct MMU: NPT and EPT, with and without accessed and dirty bits, and nested ones. */
const RECORDINGS = ["recordings", "direct-recordings"].flatMap((folder) =>
  readdirSync(join(fixtures, folder)).flatMap((scenario) =>
    readdirSync(join(fixtures, folder, scenario))
      .filter((configuration) => /-tdp0/.test(configuration))
      .map((configuration) => join(folder, scenario, configuration)),
  ),
);

describe("recordings of Linux 6.1's KVM with NPT and EPT", () => {
  it("are there", () => {
    expect(RECORDINGS.length).toBeGreaterThanOrEqual(12);
  });

  it.each(RECORDINGS)("%s: events, results and state after each step are equal", (name) => {
    const report = replay(readRecording(join(fixtures, name)), engineTarget);
    expect(report.failure).toBeUndefined();
    expect(report.differences).toEqual([]);
    expect(report.steps).toBe(report.recording.steps.length);
  });
});
