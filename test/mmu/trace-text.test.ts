/** The engine's events as the kernel's own trace text. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readRecording } from "../../src/recording/format/reader.js";
import { normalizeAddresses, parseTraceLine, printEvent } from "../../src/recording/format/trace-text.js";
import { engineTarget } from "../../src/recording/replay/engine-target.js";
import { replay } from "../../src/recording/replay/replayer.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures", "recordings");

/** Addresses of shadow tables differ from machine to machine: where an SPTE lies, and where a table SPTE points. */
function normalized(name: string, body: string): string {
  return `${name}: ${normalizeAddresses(body).replace(/ at [0-9a-f]+$/, " at (address)")}`;
}

describe("the engine's events", () => {
  it.each(["e1_lm4_mmio_slots/npt0", "h1_lm4_pt_in_huge/npt0"])("of %s are the kernel's own trace text", (name) => {
    const folder = join(fixtures, name);
    const printed: string[] = [];
    const kinds = new Set<string>();
    replay(readRecording(folder), (config, host, sink) => {
      const target = engineTarget(config, host, (event) => {
        printed.push(normalized(event.ev, printEvent(event)));
        sink?.(event);
      });
      for (const kind of target.emits) kinds.add(kind);
      return target;
    });
    const text = gunzipSync(readFileSync(join(folder, "trace.txt.gz"))).toString("utf8");
    const recorded = text
      .split("\n")
      .map(parseTraceLine)
      .filter((line) => line !== undefined && kinds.has(line.name))
      .map((line) => normalized(line!.name, line!.body));
    expect(printed.length).toBeGreaterThan(100);
    expect(printed).toEqual(recorded);
  });
});
