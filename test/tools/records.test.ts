/** The core's record classes against the tables that they are generated from, field by field, through the compiler. */
import { readFileSync } from "node:fs";
import asc from "assemblyscript/asc";
import { beforeAll, describe, expect, it } from "vitest";
import { recordClasses } from "../../scripts/generate/assembly-records.js";
import { offsetsOf, RECORDS, type RecordField, type RecordLayout } from "../../src/abi/index.js";
import { SHADOW_RECORDS } from "../../src/abi/shadow.js";

const records = [...RECORDS, ...SHADOW_RECORDS];
const BYTES = { u16: 2, u32: 4, u64: 8 };
const root = new URL("../../", import.meta.url);

const camelCase = (name: string) => name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const isArray = ({ count = 1 }: RecordField) => count > 1;

/** Bytes of one element: of a record, where the array holds records. */
function elementBytes({ type, of }: RecordField): number {
  return of === undefined ? BYTES[type] : offsetsOf(records.find(({ prefix }) => prefix === of)!).size;
}

/** Functions that read and write one field of the record at `p`, or give the address of a record in it. */
function probesOf(layout: RecordLayout): string[] {
  return layout.fields.map((field) => {
    const key = `${layout.prefix}_${field.name}`;
    const place = `changetype<${layout.className}>(p).${camelCase(field.name)}`;
    if (field.of !== undefined) {
      const one = (field.count ?? 1) * BYTES[field.type] === elementBytes(field);
      const value = one ? place : `${place}(i)`;
      return `export function at_${key}(p: usize, i: u32): usize { return changetype<usize>(${value}); }`;
    }
    const target = field.to?.endsWith("[]") ? undefined : records.find(({ prefix }) => prefix === field.to)?.className;
    const type = target === undefined ? (field.to === undefined ? field.type : "usize") : target;
    const cast = (value: string) => (target === undefined ? `<u64>${value}` : `<u64>changetype<usize>(${value})`);
    const back = target === undefined ? `<${type}>value` : `changetype<${type}>(<usize>value)`;
    const setter = `changetype<${layout.className}>(p).set${camelCase(field.name).replace(/^./, (a) => a.toUpperCase())}`;
    const write = isArray(field) ? `${setter}(i, ${back})` : `${place} = ${back}`;
    return (
      `export function get_${key}(p: usize, i: u32): u64 { return ${cast(isArray(field) ? `${place}(i)` : place)}; }\n` +
      `export function set_${key}(p: usize, i: u32, value: u64): void { ${write}; }`
    );
  });
}

type Probe = (record: number, index: number, value?: bigint) => number | bigint;
let probes: Readonly<Record<string, Probe>>;
let memory: DataView;

beforeAll(async () => {
  const classes = records.map(({ className }) => className);
  const sizes = classes.map((name) => `export function size_${name}(): u32 { return ${name}.SIZE; }`);
  const text = [
    `import { ${classes.join(", ")} } from "./assembly/abi/records";`,
    ...sizes,
    ...records.flatMap(probesOf),
  ];
  const files: Readonly<Record<string, string>> = {
    "probe.ts": text.join("\n"),
    "assembly/abi/records.ts": readFileSync(new URL("assembly/abi/records.ts", root), "utf8"),
  };
  let wasm: Uint8Array<ArrayBuffer> | undefined;
  let messages = "";
  await asc.main(["probe.ts", "--config", "none", "--runtime", "stub", "--use", "abort=", "--outFile", "probe.wasm"], {
    readFile: (name) => files[name] ?? null,
    writeFile: (name, contents) => {
      if (name.endsWith(".wasm") && typeof contents !== "string") wasm = Uint8Array.from(contents);
    },
    listFiles: () => [],
    stderr: {
      write: (chunk) => {
        messages += String(chunk);
      },
    },
  });
  if (wasm === undefined) throw new Error(messages);
  const { exports } = (await WebAssembly.instantiate(wasm)).instance;
  probes = exports as unknown as typeof probes;
  const linear = exports.memory as WebAssembly.Memory;
  linear.grow(1);
  memory = new DataView(linear.buffer);
});

/** Where the record lies in these tests. */
const AT = 64;

function stored(type: RecordField["type"], at: number): bigint {
  if (type === "u64") return memory.getBigUint64(at, true);
  return BigInt(type === "u32" ? memory.getUint32(at, true) : memory.getUint16(at, true));
}

describe.each(records.map((layout) => [layout.className, layout] as const))("%s", (_, layout) => {
  it.each(layout.fields.map((field) => [field.name, field] as const))("has %s where the table has it", (_, field) => {
    const key = `${layout.prefix}_${field.name}`;
    const bytes = elementBytes(field);
    const count = ((field.count ?? 1) * BYTES[field.type]) / bytes;
    for (let index = 0; index < count; index++) {
      const at = AT + offsetsOf(layout).offsets[field.name]! + index * bytes;
      if (field.of !== undefined) {
        expect(probes[`at_${key}`]!(AT, index)).toBe(at);
        continue;
      }
      const value = 0x1122_3344_5566_7788n & ((1n << BigInt(8 * bytes)) - 1n);
      new Uint8Array(memory.buffer).fill(0, 0, AT + offsetsOf(layout).size + 64);
      probes[`set_${key}`]!(AT, index, value);
      expect(stored(field.type, at)).toBe(value);
      expect(probes[`get_${key}`]!(AT, index)).toBe(value);
      expect(
        new Uint8Array(memory.buffer, 0, AT + offsetsOf(layout).size + 64).filter((byte) => byte !== 0),
      ).toHaveLength(bytes);
    }
  });

  it("has the table's size", () => {
    expect((probes[`size_${layout.className}`] as unknown as () => number)()).toBe(offsetsOf(layout).size);
  });
});

describe("a table is refused", () => {
  const table = (...fields: RecordField[]): RecordLayout => ({ prefix: "T", className: "T", title: "Trial", fields });
  const field = (name: string, more: Partial<RecordField> = {}): RecordField => ({
    name,
    type: "u32",
    meaning: "",
    ...more,
  });

  it.each([
    ["a scalar behind an array", [field("A", { count: 2 }), field("B")], "B stands behind the array A"],
    ["a pointer to a record that there is not", [field("A", { to: "X" })], "T_A: there is no record X"],
    ["a pointer of 64 bits", [field("A", { to: "T", type: "u64" })], "T_A: a pointer of u64"],
    ["an array that holds no whole records", [field("B"), field("A", { count: 3, of: "T" })], "A: 12 bytes"],
  ] as const)("with %s", (_, fields, message) => {
    expect(() => recordClasses([table(...fields)])).toThrow(message);
  });
});
