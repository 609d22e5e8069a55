/** Replays of the recordings among the fixtures. */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readRecording } from "../../src/recording/format/reader.js";
import { engineTarget } from "../../src/recording/replay/engine-target.js";
import { replay } from "../../src/recording/replay/replayer.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures");

/** Tests with every recording in `folders` whose configuration matches; at least `least` of them. */
export function describeReplays(title: string, folders: readonly string[], configuration: RegExp, least: number): void {
  const names = folders.flatMap((folder) =>
    readdirSync(join(fixtures, folder)).flatMap((scenario) =>
      readdirSync(join(fixtures, folder, scenario))
        .filter((name) => configuration.test(name))
        .map((name) => join(folder, scenario, name)),
    ),
  );
  describe(title, () => {
    it("are there", () => {
      expect(names.length).toBeGreaterThanOrEqual(least);
    });

    it.each(names)("%s: events, results and state after each step are equal", (name) => {
      const report = replay(readRecording(join(fixtures, name)), engineTarget);
      expect(report.failure).toBeUndefined();
      expect(report.differences).toEqual([]);
      expect(report.steps).toBe(report.recording.steps.length);
    });

    it.each(names)("%s: results and state are the same when nobody traces", (name) => {
      const report = replay(readRecording(join(fixtures, name)), engineTarget, { events: false });
      expect(report.failure).toBeUndefined();
      expect(report.differences).toEqual([]);
      expect(report.events.size).toBe(0);
    });
  });
}
