/**
 * Reads values out of a line's bytes. A method that finds something else than it wants returns false, and leaves the cursor
 * where it was or behind what it took: the line is given up then.
 */

const code = (character: string): number => character.charCodeAt(0);

/** The value of a hexadecimal digit by its code, 255 of anything else. */
const DIGITS = new Uint8Array(256).fill(255);
for (let value = 0; value < 16; value++) {
  DIGITS[code(value.toString(16))] = value;
  DIGITS[code(value.toString(16).toUpperCase())] = value;
}
const NO_DIGIT = 255;
const TEN = 10;
const MINUS = code("-");
const SPACE = code(" ");
const PIPE = code("|");
const ZERO = code("0");
const X = code("x");
/** Digits of half a 64-bit value, and of a whole one. */
const HALF = 8;
const WHOLE = 16;
const LOW = 2 ** 32;

export class Cursor {
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  end = 0;
  /** The value that was read last. */
  low = 0;
  high = 0;

  /** Stands at the beginning of a text. */
  reset(bytes: Uint8Array, from: number, to: number): void {
    this.bytes = bytes;
    this.at = from;
    this.end = to;
  }

  get atEnd(): boolean {
    return this.at >= this.end;
  }

  /** Takes exactly these bytes. */
  literal(wanted: Uint8Array): boolean {
    const { bytes, at } = this;
    const { length } = wanted;
    if (at + length > this.end) return false;
    for (let i = 0; i < length; i++) if (bytes[at + i] !== wanted[i]) return false;
    this.at = at + length;
    return true;
  }

  /** Takes a hexadecimal number of at most 64 bits. */
  hex(): boolean {
    const { bytes, end } = this;
    const from = this.at;
    let at = from;
    while (at < end && bytes[at] === ZERO) at++;
    const first = at;
    while (at < end && DIGITS[bytes[at]!] !== NO_DIGIT) at++;
    const digits = at - first;
    if (at === from || digits > WHOLE) return false;
    let high = 0;
    let low = 0;
    const middle = digits > HALF ? at - HALF : first;
    for (let i = first; i < middle; i++) high = high * 16 + DIGITS[bytes[i]!]!;
    for (let i = middle; i < at; i++) low = low * 16 + DIGITS[bytes[i]!]!;
    this.low = low;
    this.high = high;
    this.at = at;
    return true;
  }

  /** Takes `0x` and a hexadecimal number, or 0 as %#x prints it. */
  hex0x(): boolean {
    if (this.bytes[this.at] === ZERO && this.at + 1 < this.end && this.bytes[this.at + 1] === X) this.at += 2;
    return this.hex();
  }

  /** Takes a decimal number below 2^53; a negative one is kept as 32 bits. */
  decimal(): boolean {
    const { bytes, end } = this;
    let { at } = this;
    const negative = at < end && bytes[at] === MINUS;
    if (negative) at++;
    const first = at;
    let value = 0;
    while (at < end) {
      const digit = DIGITS[bytes[at]!]!;
      if (digit >= TEN) break;
      value = value * 10 + digit;
      at++;
    }
    if (at === first || value > Number.MAX_SAFE_INTEGER) return false;
    if (negative) value = -value;
    this.low = negative ? value >>> 0 : value % LOW;
    this.high = negative ? 0 : Math.floor(value / LOW);
    this.at = at;
    return true;
  }

  /** Takes names of error-code bits with `|` between them, and a hexadecimal rest, until a space. */
  flags(names: ReadonlyMap<string, number>): boolean {
    const { bytes, end } = this;
    let value = 0;
    let { at } = this;
    while (at < end && bytes[at] !== SPACE) {
      const from = at;
      while (at < end && bytes[at] !== SPACE && bytes[at] !== PIPE) at++;
      const word = latin1(bytes, from, at);
      const bit = names.get(word);
      if (bit !== undefined) value += bit;
      else if (/^0x[0-9a-f]{1,13}$/.test(word)) value += Number(word);
      else return false;
      if (bytes[at] === PIPE && at < end) at++;
    }
    this.low = value % LOW;
    this.high = Math.floor(value / LOW);
    this.at = at;
    return true;
  }

  /** Passes over what stands until the next space or the end; false where there is nothing. */
  word(): boolean {
    const from = this.at;
    while (this.at < this.end && this.bytes[this.at] !== SPACE) this.at++;
    return this.at > from;
  }
}

/** Bytes as text, one character for each. */
export function latin1(bytes: Uint8Array, from: number, to: number): string {
  let text = "";
  for (let at = from; at < to; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}

/** Bytes of a text of ASCII characters. */
export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, code);
}
