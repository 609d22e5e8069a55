/** What every decoder of the view gives: a word by its fields, what it says, and the same in other kernels. */
import type { StripField } from "../../paging/bit-strip.jsx";

export interface Decoded {
  /** The manual's name of the word. */
  readonly title: string;
  readonly summary: string;
  /** Every bit in one field. */
  readonly fields: readonly StripField[];
  /** What a processor or the kernel refuses. */
  readonly problems: readonly string[];
  /** What else is said of it: label and text. */
  readonly facts: readonly (readonly [label: string, text: string])[];
  /** The same in other kernels. */
  readonly eras?: readonly EraReading[];
  /** Where the bits are described. */
  readonly source: string;
}

/** A word as another kernel has it or reads it. */
export interface EraReading {
  readonly era: string;
  readonly kernels: string;
  /** The word in that kernel's layout, where it is converted. */
  readonly word?: bigint;
  readonly text: string;
}

/** A choice beside the word; all values are text, as they stand in the URL. */
export type Option =
  | { readonly name: string; readonly label: string; readonly type: "choice"; readonly values: readonly Choice[] }
  | { readonly name: string; readonly label: string; readonly type: "switch" }
  | {
      readonly name: string;
      readonly label: string;
      readonly type: "number";
      readonly least: number;
      readonly most: number;
    };

export interface Choice {
  readonly value: string;
  readonly label: string;
}

/** Option values by name; a switch is "on" or "". */
export type Options = Readonly<Record<string, string>>;

/** One kind of word. */
export interface Decoder {
  readonly id: string;
  readonly group: string;
  readonly title: string;
  /** A word to begin with. */
  readonly example: bigint;
  /** The choices, which may depend on others. */
  readonly options: (chosen: Options) => readonly Option[];
  readonly defaults: Options;
  readonly bits: (options: Options) => number;
  /** Throws an error whose message is for people. */
  readonly decode: (word: bigint, options: Options) => Decoded;
}

/** The word with another value in a field. */
export function withField(
  word: bigint,
  { low, width }: { readonly low: number; readonly width: number },
  value: bigint,
): bigint {
  const mask = ((1n << BigInt(width)) - 1n) << BigInt(low);
  return (word & ~mask) | ((value << BigInt(low)) & mask);
}
