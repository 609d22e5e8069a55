/**
 * Puts into dist what stands outside of src: the benchmarks (`x86-paging bench`) and the random guests (`x86-paging fuzz --vm`),
 * each as one file, which imports the package's own modules from beside it, and its dependencies as they are.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** src/x.js is x.js beside the folder in dist. */
const ownModules: Plugin = {
  name: "own-modules",
  setup(building) {
    building.onResolve({ filter: /^(\.\.\/)+src\// }, ({ path }) => ({
      path: path.replace(/^(\.\.\/)+src\//, "../"),
      external: true,
    }));
  },
};

const MODULES = { bench: ["bench", "suite.ts"], guests: ["test", "mmu", "machines", "campaign.ts"] } as const;

for (const [name, source] of Object.entries(MODULES)) {
  await build({
    entryPoints: [join(root, ...source)],
    outfile: join(root, "dist", name, "index.js"),
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    plugins: [ownModules],
    logLevel: "warning",
  });
}
