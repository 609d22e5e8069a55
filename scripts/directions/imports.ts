/**
 * What a source file imports: asc's own parser reads assembly, oxc-parser the rest; both serve the other lints and the
 * mutation tool, too. Tried beside them: dependency-cruiser 17 over swc, which finds the same 1,488 imports of src and
 * assembly (over acorn, without TypeScript's compiler, 20 fewer), but no addresses of workers, reads only what lies on a
 * disk, and brings 19 MB. Biome has a rule for circles of files, none for circles of folders, and no parser for
 * decorators on functions and constants. TypeScript 7 has no interface for programs.
 */
import { ExportStatement, ImportStatement, Parser } from "assemblyscript";
import { parseSync } from "oxc-parser";

const seen = new Map<string, readonly string[]>();

/** Modules that `text` names, as they are written: values, types, `import()`, `new URL("./x.js", import.meta.url)`. */
export function importsIn(path: string, text: string): readonly string[] {
  const key = `${path}\n${text}`;
  const found =
    seen.get(key) ?? (path.startsWith("assembly/") ? assemblyImports(path, text) : moduleImports(path, text));
  seen.set(key, found);
  return found;
}

function assemblyImports(path: string, text: string): string[] {
  const parser = new Parser();
  parser.parseFile(text, path, true);
  const [error] = parser.diagnostics;
  if (error) throw new SyntaxError(`${path}: ${error.message}`);
  return parser.sources[0]!.statements.flatMap((statement) => {
    if (!(statement instanceof ImportStatement || statement instanceof ExportStatement)) return [];
    return statement.path ? [statement.path.value] : [];
  });
}

function moduleImports(path: string, text: string): string[] {
  const { program, errors } = parseSync(path, text);
  if (errors[0]) throw new SyntaxError(`${path}: ${errors[0].message}`);
  const found: string[] = [];
  visit(program, (node) => {
    const named = isUrlOfModule(node) ? node.arguments?.[0] : node.source;
    if (typeof named?.value === "string") found.push(named.value);
  });
  return found;
}

/** As much of the tree's nodes as is looked at. */
interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly source?: Node | null;
  readonly callee?: Node & { readonly name?: string };
  readonly arguments?: readonly Node[];
}

/** Workers are named by address. */
function isUrlOfModule({ type, callee, arguments: given }: Node): boolean {
  return type === "NewExpression" && callee?.name === "URL" && /\.[jt]s$/.test(String(given?.[0]?.value));
}

function visit(node: unknown, look: (node: Node) => void): void {
  if (typeof node !== "object" || node === null) return;
  if (Array.isArray(node)) {
    for (const one of node) visit(one, look);
    return;
  }
  if ("type" in node) look(node as Node);
  for (const value of Object.values(node)) visit(value, look);
}
