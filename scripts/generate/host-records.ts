/** What the generator writes for the host: a class for each record, with an accessor for each of its fields. */
import { type FieldType, offsetsOf, RECORDS, type RecordField, type RecordLayout } from "../../src/abi/index.js";
import { SHADOW_RECORDS } from "../../src/abi/shadow.js";

/** How an element is read: the view of its width, the shift from bytes to it, and its JavaScript type. */
const VIEWS: Readonly<Record<FieldType, { readonly view: string; readonly shift: number; readonly type: string }>> = {
  u16: { view: "u16", shift: 1, type: "number" },
  u32: { view: "u32", shift: 2, type: "number" },
  u64: { view: "u64", shift: 3, type: "bigint" },
};

/** What the core alone writes: the host has no setters for it, and a bundle less to carry. */
const WRITTEN_BY_CORE = new Set([
  "WORK",
  "RESULT_LINE",
  "STEP",
  "UPDATE",
  "CURSOR",
  "LEAF",
  "PLAN",
  "TLB_ENTRY",
  "TLB_LINE",
]);

/** Files in src/core/records by name. */
export function hostRecordFiles(header: string): readonly (readonly [name: string, text: string])[] {
  return [
    ["walk.ts", fileOf(header, RECORDS)],
    ["mmu.ts", fileOf(header, SHADOW_RECORDS)],
  ];
}

function fileOf(header: string, records: readonly RecordLayout[]): string {
  const imports = 'import type { LinearMemory } from "../linear/linear-memory.js";\n';
  return [`${header}${imports}`, ...records.map(classOf)].join("\n");
}

function classOf(layout: RecordLayout): string {
  const { offsets, size } = offsetsOf(layout);
  const fields = layout.fields.filter(({ name }) => name !== "PAD");
  const places = fields.map(({ name }) => `  ${memberOf(name)}: ${offsets[name]},\n`).join("");
  const head = [
    // By itself, so that a bundle has it only where it is used.
    `/** Where the fields of ${className(layout)} begin, in bytes. */\n`,
    `export const ${layout.prefix}_OFFSET = {\n${places}} as const;\n\n`,
    `/** ${layout.title}. */\nexport class ${className(layout)} {\n`,
    `  /** Bytes. */\n  static readonly SIZE = ${size};\n`,
    "  readonly #linear: LinearMemory;\n\n",
    "  /** `at` is the record's linear address; with another one the object stands for another record. */\n",
    "  constructor(\n    linear: LinearMemory,\n    public at: number,\n  ) {\n    this.#linear = linear;\n  }\n",
  ];
  return [...head, ...fields.map((field) => membersOf(layout, field, offsets[field.name]!)), "}\n"].join("");
}

function membersOf({ prefix }: RecordLayout, { name, type, count = 1, meaning }: RecordField, offset: number): string {
  const readOnly = WRITTEN_BY_CORE.has(prefix) || (count === 1 && meaning.startsWith("derived:"));
  const { view, shift, type: valueType } = VIEWS[type];
  const member = memberOf(name);
  const start = offset === 0 ? "this.at" : `(this.at + ${offset})`;
  const element = (index: string) => `this.#linear.${view}[(${start} >>> ${shift})${index}]`;
  const doc = `\n  /** ${meaning} */\n`;
  if (count === 1) {
    const at = `this.#linear.${view}[${start} >>> ${shift}]`;
    const getter = `${doc}  get ${member}(): ${valueType} {\n    return ${at}!;\n  }\n`;
    return readOnly ? getter : `${getter}\n  set ${member}(value: ${valueType}) {\n    ${at} = value;\n  }\n`;
  }
  const setter = `set${member[0]!.toUpperCase()}${member.slice(1)}`;
  const getter = `${doc}  ${member}(index: number): ${valueType} {\n    return ${element(" + index")}!;\n  }\n`;
  if (readOnly) return getter;
  return `${getter}\n  ${setter}(index: number, value: ${valueType}): void {\n    ${element(" + index")} = value;\n  }\n`;
}

/** `TLB_ENTRY` is TlbEntryRecord. */
function className({ prefix }: RecordLayout): string {
  const words = prefix.split("_").map((word) => word[0] + word.slice(1).toLowerCase());
  return `${words.join("")}Record`;
}

/** `ROOT_COUNT` is rootCount. */
function memberOf(name: string): string {
  if (name === "AT") throw new RangeError("a field has the name AT, which the record's own address has");
  return name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
