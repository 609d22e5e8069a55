/** Page-walk vectors: one JSON object a line says what a processor did with an access, or several, through given tables. */
import type { EptConfig, NptConfig } from "../api.js";
import { Fields } from "./fields.js";

/** The paging mode of a vector. */
export type VectorMode = "32bit" | "pae" | "4level" | "5level";

/** An entry that is placed in memory, before and after. */
export interface VectorEntry {
  readonly level: number;
  readonly gpa: bigint;
  /** Where it lies in memory: `gpa`, but for a guest's tables behind a second stage that maps them elsewhere. */
  readonly hpa: bigint;
  /** Value before the access, after it, and another value that a processor may leave behind. */
  readonly before: bigint;
  readonly after: bigint;
  readonly afterAlt: bigint | undefined;
}

/** What the access gave. */
export type VectorResult =
  | { readonly ok: true; readonly pa: bigint }
  | { readonly ok: false; readonly vector: 14; readonly errorCode: bigint; readonly cr2: bigint }
  | { readonly ok: false; readonly vector: 13; readonly errorCode: bigint }
  | {
      readonly ok: false;
      readonly exit: VectorExit;
      /** The exit qualification of an EPT violation, EXITINFO1 of a nested page fault; 0 for a misconfiguration. */
      readonly code: bigint;
      readonly gpa: bigint;
    };

/** The VM exits that an access through a second stage may come to. */
export type VectorExit = "ept-violation" | "ept-misconfiguration" | "npf";

/** One access of a vector. */
export interface VectorAccess {
  readonly kind: "read" | "write" | "fetch";
  readonly cpl: 0 | 1 | 2 | 3;
  readonly implicit: boolean;
  /** EFLAGS.AC. */
  readonly ac: boolean;
  readonly gva: bigint;
  /** What is right: the field `expected` where there is one, else `result`. */
  readonly result: VectorResult;
  /** The result was not observed but derived from the manual; the entries' `after` does not belong to it. */
  readonly derived: boolean;
}

/** The second stage of a vector. */
export type VectorSecondStage =
  | { readonly kind: "ept"; readonly config: EptConfig; readonly entries: readonly VectorEntry[] }
  | { readonly kind: "npt"; readonly config: NptConfig; readonly entries: readonly VectorEntry[] };

/** Tables and what was accessed through them, as it was recorded. */
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
  readonly pkru: number;
  readonly pkrs: number;
  /** PAE: the four values that MOV CR3 loads. */
  readonly pdptes: readonly bigint[] | undefined;
  readonly entries: readonly VectorEntry[];
  readonly secondStage: VectorSecondStage | undefined;
  /** One or more accesses in a row, through the same tables; an entry's `after` is its value behind the last. */
  readonly accesses: readonly VectorAccess[];
}

/** A walk reads five entries at most, of two stages 35; a vector may have some more beside them. */
const MOST_ENTRIES = 64;
const MOST_ACCESSES = 64;

const ROOT_LEVEL: Record<VectorMode, number> = { "32bit": 2, pae: 3, "4level": 4, "5level": 5 };

/** Reads one line; throws a VectorError that names `line` (from 1) and the field where it is not a vector. */
export function parseVector(text: string, line: number): WalkVector {
  const fields = Fields.parse(text, line);
  const mode = fields.choice<VectorMode>("mode", ["32bit", "pae", "4level", "5level"]);
  const cpu = fields.object("cpu");
  const secondStage = fields.has("secondStage") ? parseSecondStage(fields.object("secondStage")) : undefined;
  const nested = secondStage?.kind;
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
    pkru: Number(fields.hex("pkru", 32)),
    pkrs: Number(fields.hex("pkrs", 32)),
    pdptes: mode === "pae" ? fields.hexList("pdptes", 4) : undefined,
    entries: parseEntries(fields, entryBytes(mode), ROOT_LEVEL[mode]),
    secondStage,
    accesses: [
      parseAccess(fields, nested),
      ...(fields.has("further") ? fields.objects("further", MOST_ACCESSES).map((one) => parseAccess(one, nested)) : []),
    ],
  };
}

function parseAccess(fields: Fields, nested: VectorSecondStage["kind"] | undefined): VectorAccess {
  const access = fields.object("access");
  const derived = fields.has("expected");
  // The recorded result is checked even where another one judges.
  const recorded = parseResult(fields.object("result"), nested);
  return {
    kind: access.choice("kind", ["read", "write", "fetch"] as const),
    cpl: access.integer("cpl", 0, 3) as 0 | 1 | 2 | 3,
    implicit: access.has("implicit") && access.boolean("implicit"),
    ac: fields.integer("ac", 0, 1) === 1,
    gva: fields.hex("gva"),
    result: derived ? parseResult(fields.object("expected"), nested) : recorded,
    derived,
  };
}

/** Levels of EPT and of nested page tables of 4 levels, and of 5. */
const SECOND_LEVELS = 5;

function parseSecondStage(fields: Fields): VectorSecondStage {
  const kind = fields.choice("kind", ["ept", "npt"] as const);
  const entries = parseEntries(fields, 8, SECOND_LEVELS);
  const maxPhysAddr = fields.integer("maxphyaddr", 32, 52);
  if (kind === "npt") {
    const config = { ncr3: fields.hex("ncr3"), cr4: fields.hex("cr4"), efer: fields.hex("efer"), maxPhysAddr };
    return { kind, config, entries };
  }
  const flag = (name: string, absent: boolean) => (fields.has(name) ? fields.boolean(name) : absent);
  const config = {
    eptp: fields.hex("eptp"),
    maxPhysAddr,
    page1g: flag("page1g", true),
    executeOnly: flag("executeOnly", true),
    modeBasedExecute: flag("modeBasedExecute", false),
    advancedExitInformation: flag("advancedExitInformation", false),
  };
  return { kind, config, entries };
}

function parseResult(fields: Fields, nested: VectorSecondStage["kind"] | undefined): VectorResult {
  if (fields.boolean("ok")) return { ok: true, pa: fields.hex("pa", 52) };
  if (nested !== undefined && fields.has("exit")) {
    const exits = nested === "npt" ? (["npf"] as const) : (["ept-violation", "ept-misconfiguration"] as const);
    return {
      ok: false,
      exit: fields.choice<VectorExit>("exit", exits),
      code: fields.hex("code"),
      gpa: fields.hex("gpa", 57),
    };
  }
  const vector = fields.integer("vector", 13, 14);
  const errorCode = fields.hex("errorCode", 32);
  return vector === 14
    ? { ok: false, vector, errorCode, cr2: fields.hex("cr2") }
    : { ok: false, vector: 13, errorCode };
}

function parseEntries(fields: Fields, bytes: 4 | 8, levels: number): VectorEntry[] {
  const placed = new Map<bigint, bigint>();
  return fields.objects("entries", MOST_ENTRIES).map((entry) => {
    const gpa = entry.hex("gpa", 52);
    const hpa = entry.has("hpa") ? entry.hex("hpa", 52) : gpa;
    for (const [name, at] of [
      ["gpa", gpa],
      ["hpa", hpa],
    ] as const) {
      if (at % BigInt(bytes) !== 0n) entry.fail(name, `a multiple of ${bytes}`);
    }
    const before = entry.hex("before", 8 * bytes);
    // Tables may share an entry, but memory holds one value for it.
    if ((placed.get(hpa) ?? before) !== before) entry.fail("before", "the value given for the same place above");
    placed.set(hpa, before);
    return {
      level: entry.integer("level", 1, levels),
      gpa,
      hpa,
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
