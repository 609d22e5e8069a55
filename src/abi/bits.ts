/**
 * How a bit layout is declared: one table per register, entry format or code.
 * The core's constants (assembly/abi), the decoders, the documentation and the
 * tests are all derived from these tables.
 */

/** One field of a layout. */
export interface BitField {
  /** The manual's own short name, e.g. `P`, `R/W`, `XD`. */
  readonly name: string;
  /** Position of the lowest bit, 0 to 63. */
  readonly low: number;
  /** Number of bits, 1 if absent. */
  readonly width?: number;
  /** What a set bit (or the field's value) means. */
  readonly meaning: string;
  /** Fields declared before whose place it has too, where the processor reads it otherwise; no other may overlap. */
  readonly shares?: readonly string[];
  /** What the values of a wider field are called. Where there is such a list, the others do not exist. */
  readonly values?: Readonly<Record<number, string>>;
}

/** A named set of fields with the manual section that defines them. */
export interface BitLayout {
  /** Prefix of the generated constants, e.g. `PTE` gives `PTE_P`. */
  readonly prefix: string;
  readonly title: string;
  /** Section title of the Intel SDM vol. 3 or the AMD APM vol. 2, or the kernel source. */
  readonly source: string;
  readonly fields: readonly BitField[];
  /** The low half is a word of its own: the core has fields below bit 32 in 32 bits, though others lie above. */
  readonly narrow?: boolean;
}

/** A field that a decoder found set in a value. */
export interface DecodedField {
  readonly name: string;
  readonly value: bigint;
  readonly meaning: string;
}

/** The mask of a field, in place. */
export function maskOf(field: BitField): bigint {
  return ((1n << BigInt(field.width ?? 1)) - 1n) << BigInt(field.low);
}

/** The field of that name; throws a RangeError for a name that the layout does not have. */
export function fieldOf(layout: BitLayout, name: string): BitField {
  const field = layout.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw new RangeError(`${layout.prefix} has no field ${name}`);
  return field;
}

/** The mask of the field of that name, in place. */
export function bitOf(layout: BitLayout, name: string): bigint {
  return maskOf(fieldOf(layout, name));
}

/** The same for words of 32 bits, as a number. */
export function flagOf(layout: BitLayout, name: string): number {
  return Number(bitOf(layout, name));
}

/** The value that a word has in a field. */
export function valueIn(field: BitField, word: bigint): bigint {
  return (word & maskOf(field)) >> BigInt(field.low);
}

/** A value in the place of the field of that name. */
export function placed(layout: BitLayout, name: string, value: bigint): bigint {
  return value << BigInt(fieldOf(layout, name).low);
}

/** Every field of `value` that is not zero, lowest bit first; bits outside the layout come last as `reserved`. */
export function decodeFields(layout: BitLayout, value: bigint): DecodedField[] {
  const found: DecodedField[] = [];
  let rest = value;
  for (const field of [...layout.fields].sort((a, b) => a.low - b.low)) {
    const inPlace = value & maskOf(field);
    rest &= ~maskOf(field);
    if (inPlace !== 0n) {
      found.push({ name: field.name, value: inPlace >> BigInt(field.low), meaning: field.meaning });
    }
  }
  if (rest !== 0n) found.push({ name: "reserved", value: rest, meaning: "bits that this layout does not define" });
  return found;
}
