/**
 * Writes docs/json.schema.json: the schema of what the commands print with --json, taken from what they print of the fixtures.
 * `jsonSchema()` is what it has to be; a test compares, so that no member comes, goes or changes unnoticed.
 */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { main } from "../src/cli/main.js";

type Schema = { readonly [name: string]: unknown };

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const fixture = (...path: string[]) => join(ROOT, "test", "fixtures", ...path);
const DUMP = fixture("dumps", "amd64-4l", "pt.elf.gz");
const LA57 = fixture("dumps", "amd64-la57", "pt.elf.gz");
const PAE = fixture("dumps", "i386-pae", "pt.elf.gz");
const SMM = fixture("recordings", "h10_lm4_smm");

/** Commands whose lines are all of one form, or of the forms that `kindOf` names. */
interface Output {
  readonly name: string;
  readonly meaning: string;
  readonly runs: readonly (readonly string[])[];
  /** Which lines are meant; default all. */
  readonly lines?: (index: number, count: number) => boolean;
}

const last = (index: number, count: number) => index === count - 1;
const notLast = (index: number, count: number) => index < count - 1;
const SOME = ["--range", "400000-600000"];

const OUTPUTS: readonly Output[] = [
  {
    name: "info",
    meaning: "the dump",
    runs: [
      ["info", DUMP],
      ["info", PAE],
    ],
  },
  {
    name: "walk",
    meaning: "an address",
    runs: [
      ["walk", DUMP, "ffffffff81000000", "0", "8000000000000000"],
      ["walk", PAE, "c1000000"],
      ["walk", DUMP, "400000", "--explain"],
    ],
  },
  {
    name: "spaces",
    meaning: "an address space",
    runs: [
      ["spaces", DUMP],
      ["spaces", PAE],
    ],
  },
  {
    name: "maps",
    meaning: "a range",
    runs: [
      ["maps", DUMP, ...SOME],
      ["maps", PAE],
      ["maps", LA57, ...SOME],
    ],
  },
  { name: "maps --merge", meaning: "a range", runs: [["maps", DUMP, "--merge"]] },
  {
    name: "maps --all",
    meaning: "a range",
    runs: [
      ["maps", DUMP, "--all", "--wx"],
      ["maps", DUMP, "--all", ...SOME],
    ],
  },
  {
    name: "read",
    meaning: "a piece of memory",
    runs: [
      ["read", DUMP, "1000", "3000", "--physical"],
      ["read", DUMP, "101c28000", "16", "--physical"],
    ],
  },
  { name: "find", meaning: "a mapping", runs: [["find", DUMP, "1000"]] },
  { name: "diff (dumps)", meaning: "a range", runs: [["diff", DUMP, LA57, ...SOME]], lines: notLast },
  { name: "diff (dumps), at the end", meaning: "the totals", runs: [["diff", DUMP, LA57, ...SOME]], lines: last },
  {
    name: "pte",
    meaning: "an entry",
    runs: [
      ["pte", "80000001f164867", "0"],
      ["pte", "1e7", "--mode", "ept", "--level", "2"],
    ],
  },
  {
    name: "decode",
    meaning: "a word",
    runs: [
      ["decode", "eptp", "1005e"],
      ["decode", "error-code", "8", "7"],
    ],
  },
  {
    name: "role",
    meaning: "a word",
    runs: [
      ["role", "3704"],
      ["role", "8100003704"],
    ],
  },
  { name: "role convert", meaning: "a word", runs: [["role", "convert", "3704", "--from", "6.1", "--to", "project"]] },
  {
    name: "spte",
    meaning: "an SPTE",
    runs: [
      ["spte", "8000000000000e77", "--format", "npt"],
      ["spte", "0", "--format", "ept"],
    ],
  },
  {
    name: "conform",
    meaning: "a file and an engine, and the totals at the end",
    runs: [["conform", fixture("walk", "pae.ndjson.gz"), "--engine", "both"]],
  },
  { name: "replay", meaning: "a recording", runs: [["replay", SMM]], lines: notLast },
  { name: "replay, at the end", meaning: "the totals", runs: [["replay", SMM]], lines: last },
  { name: "replay --walks", meaning: "a recording", runs: [["replay", SMM, "--walks"]], lines: notLast },
  { name: "replay --walks, at the end", meaning: "the totals", runs: [["replay", SMM, "--walks"]], lines: last },
];

class Collector extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

async function printed(args: readonly string[]): Promise<unknown[]> {
  const [stdout, stderr] = [new Collector(), new Collector()];
  await main([...args, "--json"], { stdin: new PassThrough(), stdout, stderr, env: {} });
  const lines = stdout.text.trim().split("\n");
  if (stdout.text === "") throw new Error(`${args.join(" ")} printed nothing: ${stderr.text}`);
  return lines.map((line) => JSON.parse(line) as unknown);
}

const HEX = /^0x[0-9a-f]+$/;
/** An object with more members than this is a table by names. */
const MOST_MEMBERS = 24;

/** The schema that all the values fit. */
function schemaOf(values: readonly unknown[]): Schema {
  const kinds = new Map<string, unknown[]>();
  for (const value of values) {
    const kind = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
    const known = kinds.get(kind) ?? [];
    known.push(value);
    kinds.set(kind, known);
  }
  const schemas = [...kinds].sort(([a], [b]) => (a < b ? -1 : 1)).map(([kind, members]) => schemaOfKind(kind, members));
  return schemas.length === 1 ? schemas[0]! : { anyOf: schemas };
}

function schemaOfKind(kind: string, values: readonly unknown[]): Schema {
  if (kind === "number") return { type: values.every(Number.isInteger) ? "integer" : "number" };
  if (kind === "string") {
    return values.every((value) => HEX.test(value as string))
      ? { type: "string", pattern: HEX.source }
      : { type: "string" };
  }
  if (kind === "array") {
    const items = (values as unknown[][]).flat();
    return items.length === 0 ? { type: "array" } : { type: "array", items: schemaOf(items) };
  }
  if (kind !== "object") return { type: kind };
  const objects = values as Record<string, unknown>[];
  const names = [...new Set(objects.flatMap((one) => Object.keys(one)))];
  if (names.length > MOST_MEMBERS) {
    return { type: "object", additionalProperties: schemaOf(objects.flatMap((one) => Object.values(one))) };
  }
  const required = names.filter((name) => objects.every((one) => name in one));
  const properties = Object.fromEntries(
    names.map((name) => [name, schemaOf(objects.filter((one) => name in one).map((one) => one[name]))]),
  );
  return { type: "object", required, properties };
}

/** The schema as the commands print today. */
export async function jsonSchema(): Promise<Schema> {
  const definitions: [string, Schema][] = [];
  for (const { name, meaning, runs, lines = () => true } of OUTPUTS) {
    const values: unknown[] = [];
    for (const args of runs) {
      const all = await printed(args);
      values.push(...all.filter((_, index) => lines(index, all.length)));
    }
    definitions.push([name, { description: `One line: ${meaning}`, ...schemaOf(values) }]);
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "What the commands of x86-paging print with --json",
    $defs: Object.fromEntries(definitions),
  };
}

export const JSON_SCHEMA_FILE = join(ROOT, "docs", "json.schema.json");

if (process.argv[1]?.endsWith("json-schema.ts")) {
  writeFileSync(JSON_SCHEMA_FILE, `${JSON.stringify(await jsonSchema(), null, 2)}\n`);
}
