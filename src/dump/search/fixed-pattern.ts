/** Patterns of a fixed length: text, and hexadecimal digits with wildcards. */
import { type BytePattern, LONGEST_MATCH, type Match, PatternError } from "./pattern.js";

/** The bit that tells small letters from capitals. */
const CASE = "a".charCodeAt(0) ^ "A".charCodeAt(0);
const ANY = 0;

/** Bytes of which some bits do not matter. */
class FixedPattern implements BytePattern {
  readonly longest: number;
  readonly #values: Uint8Array;
  /** Bits that matter. */
  readonly #masks: Uint8Array;
  /** How far to go on where the last byte that is compared is this one (Horspool's rule). */
  readonly #shifts: Uint16Array;

  constructor(values: Uint8Array, masks: Uint8Array) {
    this.longest = values.length;
    this.#values = values.map((value, index) => value & masks[index]!);
    this.#masks = masks;
    this.#shifts = new Uint16Array(256).fill(values.length);
    for (let index = 0; index < values.length - 1; index++) {
      for (let byte = 0; byte < 256; byte++) {
        if ((byte & masks[index]!) === this.#values[index]) this.#shifts[byte] = values.length - 1 - index;
      }
    }
  }

  matches(bytes: Uint8Array, from: number, to: number, visit: (match: Match) => void): void {
    const length = this.longest;
    const last = Math.min(to, bytes.length - length + 1);
    for (let index = from; index < last; ) {
      if (!this.#isAt(bytes, index)) {
        index += this.#shifts[bytes[index + length - 1]!]!;
        continue;
      }
      visit({ index, length });
      index += length;
    }
  }

  #isAt(bytes: Uint8Array, at: number): boolean {
    for (let index = this.longest - 1; index >= 0; index--) {
      if ((bytes[at + index]! & this.#masks[index]!) !== this.#values[index]) return false;
    }
    return true;
  }
}

/** How text is looked for. */
export interface TextOptions {
  /** How the text lies in memory. Default "utf-8". */
  readonly encoding?: "utf-8" | "utf-16le";
  /** Letters of ASCII match in both cases. Default false. */
  readonly ignoreCase?: boolean;
}

/** Text of up to 4096 bytes. Throws a PatternError for no text and for more. */
export function textPattern(text: string, { encoding = "utf-8", ignoreCase = false }: TextOptions = {}): BytePattern {
  const units = encoding === "utf-8" ? new TextEncoder().encode(text) : unitsOf(text);
  const masks = units.map((unit) => (ignoreCase && isLetter(unit) ? ~CASE : ~0));
  if (units instanceof Uint8Array) return sized(units, masks as Uint8Array);
  return sized(bytesOf(units), bytesOf(masks as Uint16Array));
}

function unitsOf(text: string): Uint16Array {
  return Uint16Array.from({ length: text.length }, (_, index) => text.charCodeAt(index));
}

/** Little-endian, whatever this machine is. */
function bytesOf(units: Uint16Array): Uint8Array {
  return Uint8Array.from({ length: units.length * 2 }, (_, index) => units[index >> 1]! >> (8 * (index % 2)));
}

/** Of ASCII. */
function isLetter(unit: number): boolean {
  const capital = unit & ~CASE;
  return capital >= 0x41 && capital <= 0x5a;
}

/**
 * Bytes as pairs of hexadecimal digits, with spaces between them or not; `?` stands for any digit: `48 8b ?? c3`, `e8????????`.
 * Throws a PatternError for anything else, for wildcards alone, and for more than 4096 bytes.
 */
export function hexPattern(text: string): BytePattern {
  const digits = text.replaceAll(/\s+/g, "");
  const odd = /[^0-9a-f?]/i.exec(digits)?.[0];
  if (odd !== undefined) throw new PatternError(`expected hexadecimal digits and ?, found ${JSON.stringify(odd)}`);
  if (
    text
      .trim()
      .split(/\s+/)
      .some((group) => group.length % 2 !== 0)
  ) {
    throw new PatternError("expected two hexadecimal digits for each byte");
  }
  const values = new Uint8Array(digits.length / 2);
  const masks = new Uint8Array(values.length);
  for (let index = 0; index < digits.length; index++) {
    const shift = index % 2 === 0 ? 4 : 0;
    if (digits[index] === "?") continue;
    values[index >> 1]! |= Number.parseInt(digits[index]!, 16) << shift;
    masks[index >> 1]! |= 0xf << shift;
  }
  if (values.length > 0 && masks.every((mask) => mask === ANY)) {
    throw new PatternError("expected a byte that is no wildcard");
  }
  return sized(values, masks);
}

function sized(values: Uint8Array, masks: Uint8Array): BytePattern {
  if (values.length === 0) throw new PatternError("expected a pattern, found none");
  if (values.length > LONGEST_MATCH) {
    throw new PatternError(`expected a pattern of at most ${LONGEST_MATCH} bytes, found ${values.length}`);
  }
  return new FixedPattern(values, masks);
}
