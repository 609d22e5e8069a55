/** Splitting TypeScript and AssemblyScript into tokens, as far as planting mistakes needs it. */

export type TokenKind = "word" | "number" | "text" | "cast" | "sign";

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Offsets in the source; `end` is behind the last character. */
  readonly start: number;
  readonly end: number;
  /** Index of the bracket that opens or closes what this one closes or opens; its own index for other tokens. */
  mate: number;
}

const SIGNS =
  /^(?:>>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|=>|==|!=|<=|>=|&&|\|\||\?\?|\?\.|\+\+|--|\+=|-=|\*=|\/=|%=|&=|\|=|\^=|<<|>>|\*\*|[-+*/%&|^!~<>=?:;,.()[\]{}@#])/;
const SKIPPED = /^(?:\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/)/;
const WORD = /^[A-Za-z_$][\w$]*/;
const NUMBER = /^(?:0[xX][\da-fA-F_]+|0b[01_]+|\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)n?/;
const TEXT = /^(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)/;
const REGEX = /^\/(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/;
/** AssemblyScript's casts, e.g. `<u32>`. */
const CAST = /^<(?:[iu](?:8|16|32|64)|[iu]size|f32|f64|bool)>/;

/** Tokens of `source`, without comments and white space. Unknown characters end in an error that names the offset. */
export function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < source.length) {
    const rest = source.slice(at);
    const skipped = SKIPPED.exec(rest);
    if (skipped) {
      at += skipped[0].length;
      continue;
    }
    const [kind, text] = nextToken(rest, tokens.at(-1), at);
    tokens.push({ kind, text, start: at, end: at + text.length, mate: tokens.length });
    at += text.length;
  }
  pairBrackets(tokens);
  return tokens;
}

function nextToken(rest: string, before: Token | undefined, at: number): [TokenKind, string] {
  const startsOperand = before === undefined || (before.kind === "sign" && !/^[)\]}]$/.test(before.text));
  const tries: [TokenKind, RegExp][] = [
    ["text", TEXT],
    ["number", NUMBER],
    ["word", WORD],
  ];
  if (startsOperand || before.text === "return") tries.unshift(["text", REGEX]);
  tries.push(["cast", CAST], ["sign", SIGNS]);
  for (const [kind, pattern] of tries) {
    const found = pattern.exec(rest);
    if (found) return [kind, found[0]];
  }
  throw new Error(`offset ${at}: ${JSON.stringify(rest.slice(0, 10))} is no token`);
}

function pairBrackets(tokens: Token[]): void {
  const open: number[] = [];
  tokens.forEach((token, index) => {
    if (token.kind !== "sign") return;
    if (/^[([{]$/.test(token.text)) open.push(index);
    if (!/^[)\]}]$/.test(token.text)) return;
    const mate = open.pop();
    if (mate === undefined) return;
    token.mate = mate;
    tokens[mate]!.mate = index;
  });
}
