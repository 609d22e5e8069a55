/** Fields of words: what they hold, and the bits that have none. */
import type { StripField } from "./bit-strip.jsx";

/** Fields of a layout, with the rest of the word filled: single bits that nobody has a name for. */
export function filled(
  word: bigint,
  bits: number,
  fields: readonly (Omit<StripField, "value"> & { readonly value?: bigint })[],
  rest: { readonly name: string; readonly meaning: string },
): StripField[] {
  const all: StripField[] = fields.map((field) => ({ ...field, value: valueAt(word, field.low, field.width) }));
  for (let bit = 0; bit < bits; bit++) {
    if (all.some(({ low, width }) => low <= bit && bit < low + width)) continue;
    all.push({ ...rest, low: bit, width: 1, value: valueAt(word, bit, 1), kind: "free" });
  }
  return all;
}

export function valueAt(word: bigint, low: number, width: number): bigint {
  return (word >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
}
