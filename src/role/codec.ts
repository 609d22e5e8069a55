/** Encoding, decoding and printing of role words, derived from the layout tables. */
import type { BitField, BitLayout } from "../abi/bits.js";
import { ConfigError } from "../errors.js";
import type { RoleLayout } from "./layouts.js";

/** A page role and, where it is a CPU role, its extended role; unsigned 32-bit numbers. */
export interface RoleWords {
  readonly base: number;
  /** Absent in a mere page role. */
  readonly ext?: number | undefined;
}

/** Field values by name. */
export type RoleFields = Readonly<Record<string, number>>;

/** One half of a role in its fields. */
export interface DecodedWord {
  /** Every field of the layout, zero ones included, lowest bit first. */
  readonly fields: RoleFields;
  /** Bits that no field of the layout covers. */
  readonly unknown: number;
}

/** A role word in its fields. */
export interface DecodedRole {
  readonly base: DecodedWord;
  readonly ext?: DecodedWord;
}

/** The largest value that a field holds. */
export function maxOf(field: BitField): number {
  return 2 ** (field.width ?? 1) - 1;
}

function byPosition(layout: BitLayout): BitField[] {
  return [...layout.fields].sort((a, b) => a.low - b.low);
}

/** Decodes one 32-bit word; throws ConfigError if `word` is not an unsigned 32-bit number. */
export function decodeWord(layout: BitLayout, word: number): DecodedWord {
  if (!Number.isInteger(word) || word < 0 || word > 0xffffffff) {
    throw new ConfigError(`${layout.title}: ${word} is not an unsigned 32-bit number`);
  }
  const fields: Record<string, number> = {};
  let unknown = word;
  for (const field of byPosition(layout)) {
    const max = maxOf(field);
    fields[field.name] = (word >>> field.low) & max;
    unknown &= ~(max << field.low);
  }
  return { fields, unknown: unknown >>> 0 };
}

/** Decodes a page role, and the extended role if there is one. */
export function decodeRole(layout: RoleLayout, role: RoleWords): DecodedRole {
  const base = decodeWord(layout.base, role.base);
  return role.ext === undefined ? { base } : { base, ext: decodeWord(layout.ext, role.ext) };
}

/**
 * Encodes field values into one word; fields that are not given are 0.
 * @throws ConfigError for a name that the layout lacks or a value that does not fit.
 */
export function encodeWord(layout: BitLayout, fields: RoleFields): number {
  let word = 0;
  for (const [name, value] of Object.entries(fields)) {
    const field = layout.fields.find((candidate) => candidate.name === name);
    if (field === undefined) {
      const names = byPosition(layout).map((known) => known.name);
      throw new ConfigError(`${layout.title} has no field ${name}: expected one of ${names.join(", ")}`);
    }
    if (!Number.isInteger(value) || value < 0 || value > maxOf(field)) {
      throw new ConfigError(`${name}=${value} does not fit: expected 0 to ${maxOf(field)}`);
    }
    word |= value << field.low;
  }
  return word >>> 0;
}

/** A role as KVM prints a CPU role: one number, the extended role in the high half. */
export function joinRole(role: RoleWords): bigint {
  return BigInt(role.base) | (BigInt(role.ext ?? 0) << 32n);
}

/** The halves of a 64-bit role word; a word below 2^32 is a page role alone. */
export function splitRole(word: bigint): RoleWords {
  if (word < 0n || word >= 1n << 64n) throw new ConfigError(`${word} is not an unsigned 64-bit number`);
  const base = Number(word & 0xffffffffn);
  const ext = Number(word >> 32n);
  return ext === 0 ? { base } : { base, ext };
}

/** `0x3704`, as KVM's tools print role words. */
export function hexRole(role: RoleWords): string {
  return `0x${joinRole(role).toString(16)}`;
}

const ACCESS_3 = ["---", "--x", "w--", "w-x", "-u-", "-ux", "wu-", "wux"];

/** Inherited rights as the layout's kernel prints them: `wux`, or `rwux` with four bits. */
export function accessText(layout: RoleLayout, access: number): string {
  const width = layout.base.fields.find((field) => field.name === "access")?.width;
  if (width !== 4) return ACCESS_3[access % ACCESS_3.length]!;
  return ["r", "w", "u", "x"].map((letter, bit) => ((access >> bit) & 1 ? letter : "-")).join("");
}
