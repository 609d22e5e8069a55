/** Builds of the core with a mistake in one file; nothing is written. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { ROOT } from "../directions/sources.js";

/**
 * The options of asconfig.json's release build, but for the second round of optimization: the tests ask what the code
 * does, and a build takes a third of the time.
 */
function options(): string[] {
  const config = JSON.parse(readFileSync(join(ROOT, "asconfig.json"), "utf8"));
  const { runPasses, converge, outFile, textFile, ...release } = config.targets.release;
  const all: Record<string, unknown> = { ...config.options, ...release, optimizeLevel: 1 };
  const flags = Object.entries(all).flatMap(([name, value]) => {
    if (typeof value === "boolean") return value ? [`--${name}`] : [];
    return [`--${name}`, Array.isArray(value) ? value.join(",") : String(value)];
  });
  return [...config.entries, "--config", "none", ...flags, "--outFile", "core.wasm", "--baseDir", ROOT];
}

/** The Wasm with `text` in place of the file `path`; undefined where that does not compile. */
export async function compileCore(path?: string, text?: string): Promise<Uint8Array | undefined> {
  let wasm: Uint8Array | undefined;
  const result = await asc.main(options(), {
    readFile: (name) => {
      const inside = name.startsWith(ROOT) ? name.slice(ROOT.length) : name;
      if (inside === path) return text!;
      try {
        return readFileSync(join(ROOT, inside), "utf8");
      } catch {
        return null;
      }
    },
    writeFile: (name, contents) => {
      if (name.endsWith(".wasm") && typeof contents !== "string") wasm = contents;
    },
    listFiles: () => [],
    stderr: { write: () => {} },
  });
  return result.error === null ? wasm : undefined;
}
