/**
 * What the lint of style finds in a file: a missing opening comment, the keyword `private`, and in src what reaches through
 * the wall around the core.
 */
import { parseSync } from "oxc-parser";

/** As much of the parser's nodes as is looked at. */
interface Parsed {
  readonly start: number;
  readonly accessibility?: string | null;
  readonly [key: string]: unknown;
}

/** A comment with words in it; only the line that names a program's interpreter may stand before it. */
const OPENING = /^(?:#![^\n]*\n)?\/\*\*(?:(?!\*\/)[\s\S])*?\w/;

export function styleProblems(path: string, text: string): string[] {
  const problems: string[] = [];
  if (/^(?:src|assembly|test|bench|web)\/.*\.tsx?$/.test(path) && !OPENING.test(text)) {
    problems.push(`${path}: expected a /** comment */ that says what the file is for in its first line`);
  }
  // Views of linear memory and the Wasm's exports are had from there, whatever else is imported.
  if (/^src\/(?!core\/|platform\.ts)/.test(path)) {
    for (const { index } of text.matchAll(/\binternals\b|\bWebAssembly\.(?:Memory|Instance)\b|\blinearMemory\b/g)) {
      const line = text.slice(0, index).split("\n").length;
      problems.push(`${path}:${line}: what lies behind src/core, expected a typed operation of it`);
    }
  }
  // AssemblyScript has no `#name`.
  if (/\.tsx?$/.test(path) && !path.startsWith("assembly/")) {
    for (const place of privatesIn(path, text)) {
      const line = text.slice(0, place).split("\n").length;
      problems.push(`${path}:${line}: the keyword private, expected #name`);
    }
  }
  return problems;
}

/** The places of members and of constructors' parameters that are declared `private`, in order. */
function privatesIn(path: string, text: string): number[] {
  // Most files do not have the word.
  if (!/\bprivate\b/.test(text)) return [];
  const { program, errors } = parseSync(path, text);
  if (errors[0]) throw new SyntaxError(`${path}: ${errors[0].message}`);
  const found: number[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    const { accessibility, start } = value as Parsed;
    if (accessibility === "private") found.push(start);
    for (const child of Object.values(value)) visit(child);
  };
  visit(program);
  return found.sort((one, other) => one - other);
}
