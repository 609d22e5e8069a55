/** docs/recording.schema.json is up to date, and what recordings are. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { recordingSchema, SCHEMA_FILE } from "../../scripts/recording-schema.js";
import { problems } from "./json-schema.js";

const FIXTURES = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures");

it("docs/recording.schema.json is what scripts/recording-schema.ts writes", () => {
  expect(JSON.parse(readFileSync(SCHEMA_FILE, "utf8"))).toEqual(JSON.parse(JSON.stringify(recordingSchema)));
});

const NAMES = ["recordings", "kernel-recordings"].flatMap((folder) =>
  readdirSync(join(FIXTURES, folder)).flatMap((scenario) =>
    readdirSync(join(FIXTURES, folder, scenario)).map((cfg) => join(folder, scenario, cfg)),
  ),
);

const scenarioOf = (name: string): Record<string, unknown> =>
  JSON.parse(gunzipSync(readFileSync(join(FIXTURES, name, "scenario.json.gz"))).toString()) as Record<string, unknown>;

it.each(NAMES)("%s is a recording by the schema", (name) => {
  expect([...problems(recordingSchema, scenarioOf(name), "")].slice(0, 5)).toEqual([]);
});

it("the schema refuses what is none", () => {
  const scenario = scenarioOf(NAMES[0]!);
  const wrong = { ...scenario, slots: [{ id: 0 }], setup_events: [{ ev: "kvm_mmu_sync_page", gfn: "1" }] };
  expect([...problems(recordingSchema, wrong, "")].length).toBeGreaterThan(3);
});
