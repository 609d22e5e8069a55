/** Regular expressions over bytes. */
import { type BytePattern, LONGEST_MATCH, type Match, PatternError } from "./pattern.js";

/** Characters that are made of bytes at once. */
const CHUNK = 4096;

/** Each byte is the character of its number (Latin-1). */
class ExpressionPattern implements BytePattern {
  readonly longest = LONGEST_MATCH;
  readonly #expression: RegExp;

  constructor(expression: RegExp) {
    this.#expression = expression;
  }

  matches(bytes: Uint8Array, from: number, to: number, visit: (match: Match) => void): void {
    const text = characters(bytes);
    const expression = this.#expression;
    expression.lastIndex = from;
    for (let found = expression.exec(text); found !== null; found = expression.exec(text)) {
      const { index } = found;
      const { length } = found[0];
      if (index >= to) return;
      if (length === 0) expression.lastIndex++;
      else visit({ index, length });
    }
  }
}

function characters(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK) as unknown as number[]);
  }
  return text;
}

/**
 * A regular expression of JavaScript over bytes: each is the character of its number, `.` is any of them, `^` and `$` are at the ends
 * of lines. What it matches without a byte is no match. Throws a PatternError for what is no expression.
 */
export function expressionPattern(
  source: string,
  { ignoreCase = false }: { readonly ignoreCase?: boolean } = {},
): BytePattern {
  if (source === "") throw new PatternError("expected a pattern, found none");
  try {
    return new ExpressionPattern(new RegExp(source, ignoreCase ? "gims" : "gms"));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new PatternError(`expected a regular expression: ${error.message}`);
  }
}
