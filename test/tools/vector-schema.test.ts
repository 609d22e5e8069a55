/** docs/vectors.schema.json is up to date, and what vectors are: those of the fixtures and of docs/vectors.md. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { VECTOR_SCHEMA_FILE, vectorSchema } from "../../scripts/vector-schema.js";
import { KERNEL_NAMES, kernelEngine } from "../../src/cli/kernel-engine.js";
import { parseVector, runVector } from "../../src/conform/index.js";
import { createReference } from "../../src/reference/index.js";
import { problems } from "./json-schema.js";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const VECTORS = join(ROOT, "test", "fixtures", "walk");

it("docs/vectors.schema.json is what scripts/vector-schema.ts writes", () => {
  expect(JSON.parse(readFileSync(VECTOR_SCHEMA_FILE, "utf8"))).toEqual(JSON.parse(JSON.stringify(vectorSchema)));
});

it.each(readdirSync(VECTORS).filter((name) => name.endsWith(".gz")))("%s has vectors by the schema", (name) => {
  const lines = gunzipSync(readFileSync(join(VECTORS, name)))
    .toString()
    .trim()
    .split("\n");
  for (const line of lines.slice(0, 200)) {
    expect([...problems(vectorSchema, JSON.parse(line))].slice(0, 5)).toEqual([]);
  }
});

const EXAMPLES = [...readFileSync(join(ROOT, "docs", "vectors.md"), "utf8").matchAll(/```json\n(.*?)```/gs)].map(
  ([, text]) => text!,
);

it.each(EXAMPLES.map((text, index) => [index + 1, text] as const))(
  "example %i of docs/vectors.md passes",
  (_, text) => {
    const vector = JSON.parse(text) as object;
    expect([...problems(vectorSchema, vector)]).toEqual([]);
    expect(runVector(createReference(), parseVector(JSON.stringify(vector), 1)).differences).toEqual([]);
  },
);

it.each(KERNEL_NAMES)("the examples pass by the core's way %s, second stages too", (kernel) => {
  for (const text of EXAMPLES) {
    const vector = parseVector(JSON.stringify(JSON.parse(text)), 1);
    expect(runVector(kernelEngine(kernel), vector).differences).toEqual([]);
  }
});

it("the schema refuses what is none", () => {
  const [example] = EXAMPLES;
  for (const wrong of [{ cr3: 4096 }, { mode: "3level" }, { result: { ok: false, vector: 14 } }, { entries: [{}] }]) {
    expect([...problems(vectorSchema, { ...JSON.parse(example!), ...wrong })].length).toBeGreaterThan(0);
  }
});
