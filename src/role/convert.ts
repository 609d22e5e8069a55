/** Conversion of a role word from one kernel's layout to another's, by meaning. */
import type { RoleFields, RoleWords } from "./codec.js";
import { decodeRole, encodeWord } from "./codec.js";
import { conceptsByField, conceptsOf, fieldFromConcepts } from "./concepts.js";
import type { RoleLayout } from "./layouts.js";

/** A field of the source that the target cannot hold. */
export interface LostField {
  /** `pae_root`, or `ext.maxphyaddr` in the extended role. */
  readonly field: string;
  readonly value: number;
}

/** A role in another kernel's layout, and what was lost on the way. */
export interface RoleConversion {
  readonly role: RoleWords;
  /** Source fields whose value cannot be read back from the target. */
  readonly lost: readonly LostField[];
  /** Target fields that the source says nothing about; they are 0. */
  readonly assumed: readonly string[];
  /** Bits of the source that no field of its layout covers; dropped. */
  readonly unknown: RoleWords;
}

/**
 * Converts a page role, with its extended role if there is one.
 * @throws ConfigError if a word is not an unsigned 32-bit number.
 */
export function convertRole(role: RoleWords, from: RoleLayout, to: RoleLayout): RoleConversion {
  const known = conceptsOf(from, role);
  const assumed: string[] = [];
  const write = (half: "base" | "ext"): number => {
    const fields: Record<string, number> = {};
    for (const { name } of to[half].fields) {
      const value = fieldFromConcepts(to, half, name, known);
      if (value === undefined) assumed.push(half === "base" ? name : `ext.${name}`);
      else fields[name] = value;
    }
    return encodeWord(to[half], fields as RoleFields);
  };
  const base = write("base");
  const converted: RoleWords = role.ext === undefined ? { base } : { base, ext: write("ext") };

  const decoded = decodeRole(from, role);
  const unknown: RoleWords =
    decoded.ext === undefined
      ? { base: decoded.base.unknown }
      : { base: decoded.base.unknown, ext: decoded.ext.unknown };
  return { role: converted, lost: lostFields(role, from, converted, to), assumed, unknown };
}

function lostFields(role: RoleWords, from: RoleLayout, converted: RoleWords, to: RoleLayout): LostField[] {
  const back = conceptsOf(to, converted);
  const lost: LostField[] = [];
  for (const { field, value, concepts } of conceptsByField(from, role)) {
    const kept = concepts.every(([concept, stated]) => (back.get(concept) ?? 0) === stated);
    if (!kept) lost.push({ field, value });
  }
  return lost;
}
