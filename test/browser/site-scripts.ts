/** Serves the test's own scripts to the browser: TypeScript goes out as JavaScript; what is built is served as it is. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { transform } from "esbuild";
import { ROOT } from "../package/packed.js";

export const SITE = "/test/browser/site/";

export async function siteScript(path: string): Promise<string | undefined> {
  if (!path.startsWith(SITE) || path.includes("..")) return undefined;
  const script = join(ROOT, path.replace(/\.js$/, ".ts"));
  if (!existsSync(script)) return undefined;
  const source = await readFile(script, "utf8");
  return path.endsWith(".js") ? (await transform(source, { loader: "ts", target: "es2022" })).code : source;
}
