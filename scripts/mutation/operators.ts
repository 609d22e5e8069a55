/** The mistakes that are planted, one at a time: every function lists replacements of one kind in a file's tokens. */
import type { Token } from "./tokens.js";

/** Replacing source characters `start` to `end` (excluded) by `text`. */
export interface Replacement {
  readonly operator: string;
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export interface Source {
  readonly text: string;
  readonly tokens: readonly Token[];
  /** For a named constant (of the object `of`, if any), what to put in its place: another one of its family. */
  readonly sibling: (name: string, of: string | undefined) => string | undefined;
  /** AssemblyScript: casts are tokens, and 0 can be returned from any function. */
  readonly assembly: boolean;
}

/** Every replacement, ordered by place. */
export function replacementsIn(source: Source): Replacement[] {
  const lists = [signs, numbers, names, operands, conditions, branches, statements, returns].map((one) => one(source));
  const body = behindImports(source.text);
  const planted = lists.flat().filter((one) => one.start >= body);
  return planted.sort((a, b) => a.start - b.start || a.end - b.end || (a.text < b.text ? -1 : 1));
}

function behindImports(text: string): number {
  const imports = [...text.matchAll(/^(?:import|export) [^;]*? from "[^"]*";$/gm)].at(-1);
  return imports === undefined ? 0 : imports.index + imports[0].length;
}

const OTHER_SIGNS: Readonly<Record<string, readonly string[]>> = {
  "==": ["!="],
  "!=": ["=="],
  "===": ["!=="],
  "!==": ["==="],
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "&&": ["||"],
  "||": ["&&"],
  "??": ["&&"],
  "+": ["-"],
  "-": ["+"],
  "*": ["+"],
  "%": ["*"],
  "&": ["|", "^"],
  "|": ["&", "^"],
  "^": ["|"],
  "<<": [">>"],
  ">>": ["<<"],
  ">>>": ["<<"],
  "&=": ["|=", "="],
  "|=": ["&=", "="],
  "+=": ["-="],
  "-=": ["+="],
  "++": ["--"],
  "--": ["++"],
  "~": [""],
  "!": [""],
};

function signs({ text, tokens }: Source): Replacement[] {
  return tokens.flatMap((token) => {
    if (token.kind !== "sign") return [];
    // A binary sign stands between blanks; type arguments do not.
    const spaced = text[token.start - 1] === " " && /\s/.test(text[token.end] ?? "");
    if (/^[<>|&*%+-]$/.test(token.text) && !spaced) return [];
    return (OTHER_SIGNS[token.text] ?? []).map((other) => replace("sign", token, token, other));
  });
}

function numbers({ tokens }: Source): Replacement[] {
  return tokens.flatMap((token) => {
    if (token.kind !== "number" || token.text.includes(".")) return [];
    const big = token.text.endsWith("n") ? "n" : "";
    const value = BigInt(token.text.replace(/[n_]/g, ""));
    const others = value === 0n ? [1n] : [value + 1n, value - 1n];
    return others.map((other) => replace("number", token, token, `${other}${big}`));
  });
}

function names({ tokens, sibling }: Source): Replacement[] {
  return tokens.flatMap((token, index) => {
    if (token.kind !== "word") return [];
    if (token.text === "true" || token.text === "false") {
      return [replace("name", token, token, token.text === "true" ? "false" : "true")];
    }
    const of = tokens[index - 1]?.text === "." ? tokens[index - 2]?.text : undefined;
    const other = sibling(token.text, of);
    return other === undefined ? [] : [replace("name", token, token, other)];
  });
}

const LOOSER: Readonly<Record<string, RegExp>> = {
  "&&": /^(?:\|\||\?\?|\?|:|=>|=|,|;|return|\|=|&=)$/,
  "||": /^(?:\?\?|\?|:|=>|=|,|;|return|\|=|&=)$/,
  "|": /^(?:&&|\|\||\?\?|\?|:|=>|=|,|;|return|\|=|&=|\+=|-=)$/,
};

/** Drops one side of `a && b`, `a || b` and `a | b`. */
function operands({ text, tokens }: Source): Replacement[] {
  return tokens.flatMap((token, index) => {
    const looser = LOOSER[token.text];
    if (token.kind !== "sign" || looser === undefined) return [];
    const first = operandStart(tokens, index, looser);
    const last = operandEnd(tokens, index, looser);
    if (first >= index || last <= index) return [];
    const [left, right] = [tokens[first]!, tokens[last]!];
    return [
      replace("operand", left, right, text.slice(left.start, tokens[index - 1]!.end)),
      replace("operand", left, right, text.slice(tokens[index + 1]!.start, right.end)),
    ];
  });
}

function operandStart(tokens: readonly Token[], index: number, looser: RegExp): number {
  let at = index - 1;
  while (at >= 0) {
    const token = tokens[at]!;
    if (/^[([{}]$/.test(token.text) || looser.test(token.text)) break;
    at = (token.mate < at ? token.mate : at) - 1;
  }
  return at + 1;
}

function operandEnd(tokens: readonly Token[], index: number, looser: RegExp): number {
  let at = index + 1;
  while (at < tokens.length) {
    const token = tokens[at]!;
    if (/^[)\]}]$/.test(token.text) || looser.test(token.text)) break;
    at = (token.mate > at ? token.mate : at) + 1;
  }
  return at - 1;
}

/** `if` and `while` that always or never hold. */
function conditions({ tokens }: Source): Replacement[] {
  return tokens.flatMap((token, index) => {
    const open = tokens[index + 1];
    if (token.kind !== "word" || open?.text !== "(") return [];
    const [first, last] = [tokens[index + 2]!, tokens[open.mate - 1]!];
    if (first === last && /^(?:true|false)$/.test(first.text)) return [];
    if (token.text === "while") return [replace("condition", first, last, "false")];
    if (token.text !== "if") return [];
    return ["false", "true"].map((value) => replace("condition", first, last, value));
  });
}

/** Exchanges what stands behind `?` and `:`. */
function branches({ text, tokens }: Source): Replacement[] {
  return tokens.flatMap((token, index) => {
    if (token.text !== "?" || token.kind !== "sign" || text[token.start - 1] === undefined) return [];
    if (!/\s/.test(text[token.start - 1]!)) return [];
    let colon = index + 1;
    for (let nested = 0; colon < tokens.length; colon++) {
      const one = tokens[colon]!;
      if (/^[;)\]}]$/.test(one.text)) return [];
      if (one.text === "?" && one.kind === "sign") nested++;
      if (one.text === ":" && nested-- === 0) break;
      if (one.mate > colon) colon = one.mate;
    }
    const last = operandEnd(tokens, colon, /^[,;:]$/);
    if (colon >= tokens.length || last <= colon) return [];
    const slice = (from: number, to: number) => text.slice(tokens[from]!.start, tokens[to]!.end);
    const swapped = `${slice(colon + 1, last)} : ${slice(index + 1, colon - 1)}`;
    return [replace("branches", tokens[index + 1]!, tokens[last]!, swapped)];
  });
}

const NOT_DROPPED = /^(?:const|let|var|import|export|type|interface|return|readonly|declare|throw|function|break)$/;

/** Drops a statement that ends in a semicolon; one behind `if (...)` goes with its condition. */
function statements({ tokens }: Source): Replacement[] {
  return tokens.flatMap((token, index) => {
    if (token.text !== ";" || insideParentheses(tokens, index)) return [];
    let at = index - 1;
    while (at >= 0) {
      const one = tokens[at]!;
      if (one.text === ";" || one.text === "{") break;
      if (one.text === "}" && !/^(?:[;),.\]:?]|\?\?|&&|\|\|)$/.test(tokens[at + 1]!.text)) break;
      at = (one.mate < at ? one.mate : at) - 1;
    }
    const first = tokens[at + 1]!;
    if (first === token || NOT_DROPPED.test(first.text) || first.text === "else") return [];
    return [replace("statement", first, token, ";")];
  });
}

function insideParentheses(tokens: readonly Token[], index: number): boolean {
  for (let at = index - 1; at >= 0; at--) {
    const token = tokens[at]!;
    if (token.text === "(" || token.text === "[") return true;
    if (token.text === "{") return false;
    if (token.mate < at) at = token.mate;
  }
  return false;
}

/** Returns 0 instead of what was meant. */
function returns({ tokens, assembly }: Source): Replacement[] {
  if (!assembly) return [];
  return tokens.flatMap((token, index) => {
    if (token.text !== "return" || tokens[index + 1]?.text === ";") return [];
    const last = operandEnd(tokens, index, /^;$/);
    const first = tokens[index + 1]!;
    return first.text === "0" && index + 1 === last ? [] : [replace("return", first, tokens[last]!, "0")];
  });
}

function replace(operator: string, first: Token, last: Token, text: string): Replacement {
  return { operator, start: first.start, end: last.end, text };
}
