/** Writes docs/vectors.schema.json: the JSON schema of one line of page-walk vectors. */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

type Schema = Readonly<Record<string, unknown>>;

const hex = (digits: number): Schema => ({ type: "string", pattern: `^0x[0-9a-fA-F]{1,${digits}}$` });
const [U32, U57, U64] = [hex(8), hex(15), hex(16)];
const PHYSICAL = hex(13);
const FLAG = { enum: [0, 1] };
const BOOLEAN = { enum: [false, true] };
const WIDTH = { type: "integer", minimum: 32, maximum: 52 };
const object = (
  required: Readonly<Record<string, Schema>>,
  optional: Readonly<Record<string, Schema>> = {},
): Schema => ({
  type: "object",
  required: Object.keys(required),
  properties: { ...required, ...optional },
});

const result = {
  anyOf: [
    object({ ok: { const: true }, pa: PHYSICAL }),
    object({ ok: { const: false }, vector: { const: 14 }, errorCode: U32, cr2: U64 }),
    object({ ok: { const: false }, vector: { const: 13 }, errorCode: U32 }),
    object({
      ...{ ok: { const: false }, exit: { enum: ["ept-violation", "ept-misconfiguration", "npf"] } },
      ...{ code: U64, gpa: U57 },
    }),
  ],
};
const access = object(
  { kind: { enum: ["read", "write", "fetch"] }, cpl: { enum: [0, 1, 2, 3] } },
  { implicit: BOOLEAN },
);
const ACCESS = { ac: FLAG, access, gva: U64, result: { $ref: "#/$defs/result" } };
const EXPECTED = { expected: { $ref: "#/$defs/result" } };

const entries = {
  type: "array",
  maxItems: 64,
  items: object(
    { level: { type: "integer", minimum: 1, maximum: 5 }, gpa: PHYSICAL, before: U64, after: U64 },
    { hpa: PHYSICAL, afterAlt: U64 },
  ),
};
const secondStage = {
  anyOf: [
    object(
      { kind: { const: "ept" }, eptp: U64, maxphyaddr: WIDTH, entries },
      { page1g: BOOLEAN, executeOnly: BOOLEAN, modeBasedExecute: BOOLEAN, advancedExitInformation: BOOLEAN },
    ),
    object({ kind: { const: "npt" }, ncr3: U64, cr4: U64, efer: U64, maxphyaddr: WIDTH, entries }),
  ],
};

export const vectorSchema: Schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "One line of page-walk vectors",
  $defs: { result },
  ...object(
    {
      ...{ id: { type: "string" }, mode: { enum: ["32bit", "pae", "4level", "5level"] } },
      cpu: object({ variant: { type: "string" }, pdpe1gb: BOOLEAN, pse36: BOOLEAN }),
      ...{ maxphyaddr: WIDTH, cr0: U64, cr3: U64, cr4: U64, efer: U64, pkru: U32, pkrs: U32 },
      ...ACCESS,
      entries,
    },
    {
      pdptes: { type: "array", items: U64, minItems: 4, maxItems: 4 },
      secondStage,
      further: { type: "array", maxItems: 64, items: object(ACCESS, EXPECTED) },
      ...EXPECTED,
    },
  ),
};

export const VECTOR_SCHEMA_FILE = join(dirname(fileURLToPath(import.meta.url)), "..", "docs", "vectors.schema.json");

if (process.argv[1]?.endsWith("vector-schema.ts")) {
  writeFileSync(VECTOR_SCHEMA_FILE, `${JSON.stringify(vectorSchema, null, 1)}\n`);
}
