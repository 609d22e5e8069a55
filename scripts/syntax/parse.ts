/** One tree for both languages. */
import { parseAssembly } from "./assembly.js";
import { parseModule } from "./modules.js";
import type { SyntaxNode } from "./node.js";

export function parse(path: string, text: string): SyntaxNode {
  return path.startsWith("assembly/") ? parseAssembly(path, text) : parseModule(path, text);
}
