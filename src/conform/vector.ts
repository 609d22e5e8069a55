/** Page-walk vectors: one JSON object a line says what a processor did with one access through given tables. */
import { Fields } from "./fields.js";

/** The paging mode of a vector. */
export type VectorMode = "32bit" | "pae" | "4level" | "5level";

/** An entry that is placed in memory, before and after. */
export interface VectorEntry {
  readonly level: number;
  readonly gpa: bigint;
  /** Value before the access, after it, and another value that a processor may leave behind. */
  readonly before: bigint;
  readonly after: bigint;
  readonly afterAlt: bigint | undefined;
}

/** What the access gave. */
export type VectorResult =
  | { readonly ok: true; readonly pa: bigint }
  | { readonly ok: false; readonly vector: 14; readonly errorCode: bigint; readonly cr2: bigint }
  | { readonly ok: false; readonly vector: 13; readonly errorCode: bigint };

/** One access with its tables, as it was recorded. */
export interface WalkVector {
  /** Line number in its file, from 1. */
  readonly line: number;
  readonly id: string;
  readonly mode: VectorMode;
  readonly cpu: { readonly variant: string; readonly page1g: boolean; readonly pse36: boolean };
  readonly maxPhysAddr: number;
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  /** EFLAGS.AC. */
  readonly ac: boolean;
  readonly pkru: number;
  readonly pkrs: number;
  readonly access: {
    readonly kind: "read" | "write" | "fetch";
    readonly cpl: 0 | 1 | 2 | 3;
    readonly implicit: boolean;
  };
  readonly gva: bigint;
  /** PAE: the four values that MOV CR3 loads. */
  readonly pdptes: readonly bigint[] | undefined;
  readonly entries: readonly VectorEntry[];
  /** What is right: the field `expected` where there is one, else `result`. */
  readonly result: VectorResult;
  /** The result was not observed but derived from the manual; the entries' `after` does not belong to it. */
  readonly derived: boolean;
}

/** A walk reads five entries at most; a vector may have some more beside them. */
const MOST_ENTRIES = 64;

const ROOT_LEVEL: Record<VectorMode, number> = { "32bit": 2, pae: 3, "4level": 4, "5level": 5 };

/** Reads one line; throws a VectorError that names `line` (from 1) and the field where it is not a vector. */
export function parseVector(text: string, line: number): WalkVector {
  const fields = Fields.parse(text, line);
  const mode = fields.choice<VectorMode>("mode", ["32bit", "pae", "4level", "5level"]);
  const cpu = fields.object("cpu");
  const access = fields.object("access");
  const derived = fields.has("expected");
  // The recorded result is checked even where another one judges.
  const recorded = parseResult(fields.object("result"));
  return {
    line,
    id: fields.string("id"),
    mode,
    cpu: { variant: cpu.string("variant"), page1g: cpu.boolean("pdpe1gb"), pse36: cpu.boolean("pse36") },
    maxPhysAddr: fields.integer("maxphyaddr", 32, 52),
    cr0: fields.hex("cr0"),
    cr3: fields.hex("cr3"),
    cr4: fields.hex("cr4"),
    efer: fields.hex("efer"),
    ac: fields.integer("ac", 0, 1) === 1,
    pkru: Number(fields.hex("pkru", 32)),
    pkrs: Number(fields.hex("pkrs", 32)),
    access: {
      kind: access.choice("kind", ["read", "write", "fetch"] as const),
      cpl: access.integer("cpl", 0, 3) as 0 | 1 | 2 | 3,
      implicit: access.has("implicit") && access.boolean("implicit"),
    },
    gva: fields.hex("gva"),
    pdptes: mode === "pae" ? fields.hexList("pdptes", 4) : undefined,
    entries: parseEntries(fields, mode),
    result: derived ? parseResult(fields.object("expected")) : recorded,
    derived,
  };
}

function parseResult(fields: Fields): VectorResult {
  if (fields.boolean("ok")) return { ok: true, pa: fields.hex("pa", 52) };
  const vector = fields.integer("vector", 13, 14);
  const errorCode = fields.hex("errorCode", 32);
  return vector === 14
    ? { ok: false, vector, errorCode, cr2: fields.hex("cr2") }
    : { ok: false, vector: 13, errorCode };
}

function parseEntries(fields: Fields, mode: VectorMode): VectorEntry[] {
  const bytes = entryBytes(mode);
  const placed = new Map<bigint, bigint>();
  return fields.objects("entries", MOST_ENTRIES).map((entry) => {
    const gpa = entry.hex("gpa", 52);
    if (gpa % BigInt(bytes) !== 0n) entry.fail("gpa", `a multiple of ${bytes}`);
    const before = entry.hex("before", 8 * bytes);
    // Tables may share an entry, but memory holds one value for it.
    if ((placed.get(gpa) ?? before) !== before) entry.fail("before", "the value given for the same gpa above");
    placed.set(gpa, before);
    return {
      level: entry.integer("level", 1, ROOT_LEVEL[mode]),
      gpa,
      before,
      after: entry.hex("after", 8 * bytes),
      afterAlt: entry.has("afterAlt") ? entry.hex("afterAlt", 8 * bytes) : undefined,
    };
  });
}

/** Size of an entry in the mode's tables. */
export function entryBytes(mode: VectorMode): 4 | 8 {
  return mode === "32bit" ? 4 : 8;
}

/** Reads a file's lines one by one; empty lines are passed over. Throws as parseVector does. */
export async function* readVectors(lines: AsyncIterable<string> | Iterable<string>): AsyncGenerator<WalkVector> {
  let line = 0;
  for await (const text of lines) {
    line++;
    if (text.trim() !== "") yield parseVector(text, line);
  }
}
