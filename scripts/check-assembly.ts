/**
 * Lints the AssemblyScript sources, whose decorators other linters cannot read: unused imports and exports, long
 * lines, long files.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const MAX_LINE = 130;
const MAX_FILE = 500;

function problemsOf(path: string, text: string): string[] {
  const problems: string[] = [];
  const name = relative(root, path);
  const body = text.replace(/^import [\s\S]*?;$/gm, "");
  for (const [, names] of text.matchAll(/^import \{([\s\S]*?)\} from/gm)) {
    for (const one of names!.split(",").map((part) => part.trim())) {
      if (one !== "" && !new RegExp(`\\b${one}\\b`).test(body)) problems.push(`${name}: unused import ${one}`);
    }
  }
  if (name.startsWith(join("assembly", "abi"))) return problems;
  const lines = text.split("\n");
  lines.forEach((line, index) => {
    if (line.length > MAX_LINE) problems.push(`${name}:${index + 1}: ${line.length} characters, at most ${MAX_LINE}`);
    if (/[ \t]+$/.test(line)) problems.push(`${name}:${index + 1}: white space at the end of the line`);
  });
  if (lines.length > MAX_FILE) problems.push(`${name}: ${lines.length} lines, at most ${MAX_FILE}`);
  return problems;
}

/** Exported functions that nothing calls; what the entries export, and files that they export as a whole, is for the host. */
function unusedExports(texts: ReadonlyMap<string, string>): string[] {
  const all = [...texts.values()].join("\n");
  const isEntry = (name: string) => /^assembly\/(?:index|testing)\.ts$/.test(name.split(sep).join("/"));
  const forHost = [...texts].flatMap(([path, text]) =>
    isEntry(relative(root, path))
      ? [...text.matchAll(/^export \* from "(.*)";$/gm)].map(([, named]) => `${join(dirname(path), named!)}.ts`)
      : [],
  );
  return [...texts].flatMap(([path, text]) => {
    const name = relative(root, path);
    if (isEntry(name) || forHost.includes(path) || name.startsWith(join("assembly", "abi"))) return [];
    return [...text.matchAll(/export function (\w+)/g)]
      .map(([, exported]) => exported!)
      .filter((exported) => [...all.matchAll(new RegExp(`\\b${exported}\\b`, "g"))].length < 2)
      .map((exported) => `${name}: nothing uses ${exported}`);
  });
}

const files = readdirSync(join(root, "assembly"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => join(root, "assembly", name));
const texts = new Map(files.map((path) => [path, readFileSync(path, "utf8")]));
const problems = [...texts].flatMap(([path, text]) => problemsOf(path, text));
problems.push(...unusedExports(texts));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
