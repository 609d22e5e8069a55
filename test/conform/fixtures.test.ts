/** Each engine against the page walks that processors were recorded at. */
import { createReadStream, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createGunzip } from "node:zlib";
import { describe, expect, it } from "vitest";
import { readVectors, runVectors } from "../../src/conform/index.js";
import { createEngine } from "../engine.js";

const FOLDER = fileURLToPath(new URL("../fixtures/walk/", import.meta.url));

describe("the engine agrees with the recorded processors", () => {
  for (const mode of ["32bit", "pae", "4level", "5level"]) {
    it(`in every sampled ${mode} vector`, async () => {
      const input = createReadStream(join(FOLDER, `${mode}.ndjson.gz`)).pipe(createGunzip());
      const summary = await runVectors(createEngine(), readVectors(createInterface({ input })));
      expect(summary.failures.map(({ vector, differences }) => [vector.id, differences])).toEqual([]);
      expect(summary.passed).toBeGreaterThan(600);
    });
  }

  it("and no fixture is left out", () => {
    expect(readdirSync(FOLDER).sort()).toEqual(["32bit", "4level", "5level", "pae"].map((mode) => `${mode}.ndjson.gz`));
  });
});
