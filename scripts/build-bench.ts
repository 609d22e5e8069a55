/**
 * Puts the benchmarks into dist (`x86-paging bench`): bench/suite.ts as one file, which imports the package's own modules
 * from beside it, and its dependencies as they are.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** src/x.js is x.js beside dist/bench. */
const ownModules: Plugin = {
  name: "own-modules",
  setup(building) {
    building.onResolve({ filter: /^\.\.\/src\// }, ({ path }) => ({
      path: path.replace("../src/", "../"),
      external: true,
    }));
  },
};

await build({
  entryPoints: [join(root, "bench", "suite.ts")],
  outfile: join(root, "dist", "bench", "index.js"),
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  plugins: [ownModules],
  logLevel: "warning",
});
