/** What a bundler makes of the built package for a browser. */
import { join } from "node:path";
import { build } from "esbuild";
import { entryFile, ROOT } from "./packed.js";

export interface Bundle {
  readonly code: Uint8Array;
  /** The files that are in it, relative to the package. */
  readonly files: readonly string[];
  /** Imports that are left for the platform. */
  readonly externals: readonly string[];
  readonly warnings: readonly string[];
}

/** Bundles a script, which may import the package's entries by their names, and minifies it. */
export async function bundle(script: string, platform: "browser" | "node" = "browser"): Promise<Bundle> {
  const { outputFiles, metafile, warnings } = await build({
    stdin: { contents: script, resolveDir: ROOT, sourcefile: "user.js" },
    absWorkingDir: ROOT,
    bundle: true,
    format: "esm",
    platform,
    target: "es2022",
    minify: true,
    metafile: true,
    write: false,
    logLevel: "silent",
  });
  const imports = Object.values(metafile.inputs).flatMap((input) => input.imports);
  return {
    code: outputFiles[0]!.contents,
    files: Object.keys(metafile.inputs).filter((file) => file !== "user.js"),
    externals: imports.filter((one) => one.external).map((one) => one.path),
    warnings: warnings.map(({ text, location }) => `${location?.file}:${location?.line}: ${text}`),
  };
}

/** Bundles all of an entry. */
export function bundleEntry(name: string, platform?: "browser" | "node"): Promise<Bundle> {
  return bundle(`export * from "./${join(entryFile(name))}";`, platform);
}
