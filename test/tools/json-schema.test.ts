/** docs/json.schema.json is what the commands print, and docs/json.md names every output. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { JSON_SCHEMA_FILE, jsonSchema } from "../../scripts/json-schema.js";
import { JSON_VERSION } from "../../src/json-text.js";

it("docs/json.schema.json is what scripts/json-schema.ts writes: no member comes, goes or changes unnoticed", async () => {
  expect(JSON.parse(readFileSync(JSON_SCHEMA_FILE, "utf8"))).toEqual(JSON.parse(JSON.stringify(await jsonSchema())));
});

it("every line has the version of the format", () => {
  const { $defs } = JSON.parse(readFileSync(JSON_SCHEMA_FILE, "utf8")) as {
    $defs: Record<string, { required?: readonly string[] }>;
  };
  for (const [name, { required }] of Object.entries($defs)) expect(required, name).toContain("version");
  const text = readFileSync(join(JSON_SCHEMA_FILE, "..", "json.md"), "utf8");
  expect(text).toContain(`Version ${JSON_VERSION}`);
});
