/**
 * The records of src/abi as `@unmanaged` classes for the core. Scalar fields are fields of the class, at the offsets that
 * the compiler gives them; arrays, which AssemblyScript has no fields for, are accessors behind them.
 */
import { type FieldType, offsetsOf, type RecordField, type RecordLayout } from "../../src/abi/index.js";

const SHIFT: Record<FieldType, number> = { u16: 1, u32: 2, u64: 3 };

/** `GW_TABLE_GFN` is `gwTableGfn`. */
function camelCase(name: string): string {
  return name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** The classes of `records`, which lead to each other and to nothing else. */
export function recordClasses(records: readonly RecordLayout[]): string[] {
  const layouts = new Map(records.map((layout) => [layout.prefix, layout]));
  const find = (prefix: string, owner: string) => {
    const layout = layouts.get(prefix);
    if (layout === undefined) throw new RangeError(`${owner}: there is no record ${prefix}`);
    return layout;
  };
  return records.map((layout) => recordClass(layout, find));
}

type Find = (prefix: string, owner: string) => RecordLayout;

function recordClass(layout: RecordLayout, find: Find): string {
  const { offsets, size } = offsetsOf(layout);
  requireArraysLast(layout);
  const parts = layout.fields.map((field) => {
    const owner = `${layout.prefix}_${field.name}`;
    const offset = offsets[field.name]!;
    if (field.of !== undefined) return recordsField(field, offset, find(field.of, owner));
    const type = typeOf(field, owner, find);
    return (field.count ?? 1) > 1 ? arrayField(field, type, offset) : scalarField(field, type);
  });
  const sized = `  /** Bytes of a record. */\n  @inline static readonly SIZE: u32 = ${size};\n`;
  return `\n/** ${layout.title}. */\n@unmanaged\nexport class ${layout.className} {\n${sized}${parts.join("")}}\n`;
}

/** Throws a RangeError where a scalar stands behind an array: the class would have it elsewhere. */
function requireArraysLast({ prefix, fields }: RecordLayout): void {
  const isArray = ({ count = 1, of }: RecordField) => count > 1 || of !== undefined;
  const first = fields.findIndex(isArray);
  const late = first < 0 ? undefined : fields.slice(first).find((field) => !isArray(field));
  if (late === undefined) return;
  throw new RangeError(`${prefix}: ${late.name} stands behind the array ${fields[first]!.name}, expected it before`);
}

/** Pointers to records are references; others are addresses. */
function typeOf(field: RecordField, owner: string, find: Find): string {
  if (field.to === undefined) return field.type;
  if (field.type !== "u32") throw new RangeError(`${owner}: a pointer of ${field.type}, expected u32`);
  if (field.to.endsWith("[]")) return "usize";
  const { className } = find(field.to, owner);
  return field.optional === true ? `${className} | null` : className;
}

function scalarField(field: RecordField, type: string): string {
  return `  /** ${field.meaning} */\n  ${camelCase(field.name)}: ${type};\n`;
}

function method(doc: string, signature: string, body: string): string {
  return `\n  /** ${doc} */\n  @inline\n  ${signature} {\n    ${body}\n  }\n`;
}

function arrayField(field: RecordField, type: string, offset: number): string {
  const name = camelCase(field.name);
  const wasm = field.type === "u32" ? type : field.type;
  const at = `changetype<usize>(this) + ((<usize>i) << ${SHIFT[field.type]})`;
  const setter = `set${name.charAt(0).toUpperCase()}${name.slice(1)}(i: u32, value: ${type}): void`;
  const parts = [
    method(field.meaning, `${name}(i: u32): ${type}`, `return load<${wasm}>(${at}, ${offset});`),
    method(`Sets \`${name}(i)\`.`, setter, `store<${wasm}>(${at}, value, ${offset});`),
  ];
  if (field.address === true) {
    const body = `return changetype<usize>(this) + ${offset};`;
    parts.push(method(`Address of \`${name}(0)\`.`, `get ${name}Address(): usize`, body));
  }
  return parts.join("");
}

function recordsField(field: RecordField, offset: number, of: RecordLayout): string {
  const name = camelCase(field.name);
  const { size } = offsetsOf(of);
  const bytes = (field.count ?? 1) * (1 << SHIFT[field.type]);
  if (bytes % size !== 0) throw new RangeError(`${field.name}: ${bytes} bytes, expected records of ${size}`);
  const first = `changetype<usize>(this) + ${offset}`;
  const [signature, at] = bytes === size ? [`get ${name}()`, first] : [`${name}(i: u32)`, `${first} + i * ${size}`];
  const accessor = method(field.meaning, `${signature}: ${of.className}`, `return changetype<${of.className}>(${at});`);
  if (field.address !== true) return accessor;
  return `\n  /** Where \`${name}\` begins. */\n  @inline static readonly ${field.name}: usize = ${offset};\n${accessor}`;
}
