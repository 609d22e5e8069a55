/** The source files that lints read, by their path in the repository. */
import { readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";

export interface Sources {
  /** Paths with `/`, sorted. */
  readonly files: readonly string[];
  read(path: string): string;
}

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** TypeScript and AssemblyScript that is built or run. */
const FOLDERS = ["assembly", "bench", "scripts", "src", "test", "web"];
const LEFT_OUT = /(?:^|\/)(?:node_modules|dist|build)\//;

/** Written by the build and not committed: imported, not read. */
export const BUILT: readonly string[] = ["src/core/wasm/wasm.generated.ts"];

/** All of a checkout's: what git lists (test/tools/directions.test.ts compares), found without asking git. */
export function sourcesOf(root: string = ROOT): Sources {
  const below = FOLDERS.flatMap((folder) => {
    const names = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
    return names.map((name) => `${folder}/${name.split(sep).join("/")}`);
  });
  const top = readdirSync(root).filter((name) => name.endsWith(".ts"));
  const files = [...top, ...below]
    .filter((path) => /\.tsx?$/.test(path))
    .filter((path) => !LEFT_OUT.test(path) && !BUILT.includes(path))
    .sort();
  return { files, read: (path) => readFileSync(join(root, path), "utf8") };
}

/** `sources` with other texts for some files, which may be new. */
export function withTexts(sources: Sources, texts: Readonly<Record<string, string>>): Sources {
  return {
    files: [...new Set([...sources.files, ...Object.keys(texts)])].sort(),
    read: (path) => texts[path] ?? sources.read(path),
  };
}
