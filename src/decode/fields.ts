/** The fields of a word, by a layout. */
import { type BitField, maskOf } from "../abi/bits.js";
import type { BitUse } from "../abi/entry-format.js";

/** One field that is not zero. */
export interface WordField {
  /** The manual's short name; `IGNORED` and `RESERVED` where the processor has none. */
  readonly name: string;
  /** Position of its lowest bit. */
  readonly low: number;
  /** Number of bits. */
  readonly width: number;
  readonly value: bigint;
  readonly use: BitUse;
  readonly meaning: string;
  /** What the value is called, of fields whose values have names; `undefined` too where no such value exists. */
  readonly text: string | undefined;
}

/** A field of a layout with its value in a word. */
export function wordField(field: BitField & { readonly use?: BitUse }, word: bigint): WordField {
  const value = (word & maskOf(field)) >> BigInt(field.low);
  return {
    name: field.name,
    low: field.low,
    width: field.width ?? 1,
    value,
    use: field.use ?? "read",
    meaning: field.meaning,
    text: field.values?.[Number(value)],
  };
}

/** Whether a field has a value that does not exist. */
export function isUnknownValue(field: BitField, word: bigint): boolean {
  return field.values !== undefined && field.values[Number((word & maskOf(field)) >> BigInt(field.low))] === undefined;
}

/** The bits of a field as the manuals write them: `7`, `51:12`. */
export function placeOf({ low, width = 1 }: { readonly low: number; readonly width?: number }): string {
  return width === 1 ? `${low}` : `${low + width - 1}:${low}`;
}
