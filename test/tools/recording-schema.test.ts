/** docs/recording.schema.json is up to date, and what recordings are. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { recordingSchema, SCHEMA_FILE } from "../../scripts/recording-schema.js";

type Schema = Readonly<Record<string, unknown>>;
const FIXTURES = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures");

/** What is wrong with a value, by the words of JSON schema that ours has. */
function* problems(schema: Schema, value: unknown, path: string): Generator<string> {
  const at = (name: string) => schema[name] as Schema | undefined;
  if (typeof schema.$ref === "string") {
    const name = schema.$ref.split("/").at(-1)!;
    yield* problems((recordingSchema.$defs as Record<string, Schema>)[name]!, value, path);
  }
  if (schema.anyOf !== undefined) {
    const fits = (schema.anyOf as Schema[]).some((one) => problems(one, value, path).next().done === true);
    if (!fits) yield `${path}: fits none of ${(schema.anyOf as Schema[]).length}`;
  }
  for (const one of (schema.allOf as Schema[] | undefined) ?? []) yield* problems(one, value, path);
  if (at("if") !== undefined && problems(at("if")!, value, path).next().done === true) {
    yield* problems(at("then")!, value, path);
  }
  if (schema.enum !== undefined && !(schema.enum as unknown[]).includes(value)) yield `${path}: ${String(value)}`;
  if ("const" in schema && schema.const !== value) yield `${path}: ${String(value)}`;
  switch (schema.type) {
    case "string":
      if (typeof value !== "string") yield `${path}: no string`;
      else if (schema.pattern !== undefined && !new RegExp(schema.pattern as string).test(value))
        yield `${path}: ${value}`;
      break;
    case "integer": {
      const { minimum = -Infinity, maximum = Infinity } = schema as { minimum?: number; maximum?: number };
      if (!Number.isInteger(value) || (value as number) < minimum || (value as number) > maximum)
        yield `${path}: no integer`;
      break;
    }
    case "array": {
      if (!Array.isArray(value)) return yield `${path}: no array`;
      const { minItems = 0, maxItems = Infinity } = schema as { minItems?: number; maxItems?: number };
      if (value.length < minItems || value.length > maxItems) yield `${path}: ${value.length} items`;
      for (const [index, item] of value.entries()) yield* problems(at("items")!, item, `${path}[${index}]`);
      break;
    }
    case "object":
      if (typeof value !== "object" || value === null || Array.isArray(value)) return yield `${path}: no object`;
      break;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  const members = value as Record<string, unknown>;
  for (const name of (schema.required as string[] | undefined) ?? [])
    if (!(name in members)) yield `${path}.${name}: missing`;
  const known = (at("properties") ?? {}) as Record<string, Schema>;
  for (const [name, item] of Object.entries(members)) {
    const member = known[name] ?? at("additionalProperties");
    if (member !== undefined && item !== null) yield* problems(member, item, `${path}.${name}`);
  }
}

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
