/** Builds the inspector into dist/web: a static site that makes no request to another origin. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const web = dirname(fileURLToPath(import.meta.url));
const root = join(web, "..");

type Target = string | { readonly [condition: string]: Target };

/** The file of an entry point: what a browser gets of it. */
function fileOf(target: Target): string {
  return typeof target === "string" ? target : fileOf(target.browser ?? target.default!);
}

/** The package by its own name, by its public entry points alone. */
const ownPackage: Plugin = {
  name: "own-package",
  enforce: "pre",
  resolveId(id) {
    if (id !== "x86-paging" && !id.startsWith("x86-paging/")) return undefined;
    const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const target = exports[id.replace("x86-paging", ".")] as Target | undefined;
    if (target === undefined) throw new Error(`${id} is no entry point of the package`);
    return join(root, fileOf(target));
  },
};

export default defineConfig({
  root: web,
  // The site may lie in any folder of a server.
  base: "./",
  logLevel: "warn",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: [ownPackage],
  worker: { format: "es", plugins: () => [ownPackage] },
  build: {
    outDir: join(root, "dist", "web"),
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Examples stay files.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1000,
  },
});
