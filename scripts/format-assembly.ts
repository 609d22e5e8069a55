/**
 * Formats the AssemblyScript sources (`--write`), or lists those that are not formatted (`--check`): prettier, with a
 * plugin that hides decorators from its TypeScript parser. Biome has no parser for decorators on functions and constants.
 * Works on `--root FOLDER` instead of the repository for a trial.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { format } from "prettier";
import { ROOT, sourcesOf } from "./directions/sources.js";

const { values: options } = parseArgs({
  options: {
    check: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    root: { type: "string", default: ROOT },
  },
});
if (options.check === options.write) throw new Error("--check or --write is expected");

/** Widths as in biome.json. */
const STYLE = { parser: "typescript", plugins: [import.meta.resolve("assemblyscript-prettier")], printWidth: 120 };

const { files, read } = sourcesOf(options.root);
const problems: string[] = [];
for (const path of files.filter((one) => one.startsWith("assembly/"))) {
  const text = read(path);
  try {
    const formatted = await format(text, STYLE);
    if (formatted === text) continue;
    if (options.write) writeFileSync(join(options.root, path), formatted);
    else problems.push(`${path}: is not formatted`);
  } catch (error) {
    // TypeScript's parser does not know all of AssemblyScript; its message ends with the lines around the place.
    problems.push(`${path}: cannot be formatted: ${String(error).split("\n")[0]}`);
  }
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
