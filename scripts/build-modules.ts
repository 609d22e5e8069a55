/**
 * Puts into dist what stands outside of src: the benchmarks (`x86-paging bench`) and the random guests (`x86-paging fuzz --vm`),
 * each as one file, which imports the package's own modules from beside it, and its dependencies as they are; and the
 * decompressors of dumps into the modules that use them, with their licences: browsers load dist as it is.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";
import { foldBits } from "./modules/fold-bits.js";
import { plainArrays } from "./modules/plain-arrays.js";

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

/** Modules of dist with the packages that they take in. */
const TAKING_IN = { zlib: "fflate", zstd: "zstddec", xz: "xz-decompress" } as const;

/** What a package asks to be told with copies of it: its licence, where it has the text as a file. */
function licenceOf(name: string): string {
  const folder = join(root, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = join(folder, "LICENSE");
  const text = existsSync(file) ? `\n\n${readFileSync(file, "utf8").trim()}` : "";
  return `/*!\n${`${name} ${version}, ${license}${text}`.replaceAll("*/", "* /")}\n*/`;
}

/**
 * zstddec takes its Wasm from a data: URL where there is `fetch`, which a page's policy may forbid, and else from Node's Buffer,
 * which bundlers replace by a package. It gets neither, and what its bytes are decoded with instead.
 */
const INSTEAD_OF_BUFFER = join(root, "scripts", "modules", "base64-bytes.js");

for (const [name, taken] of Object.entries(TAKING_IN)) {
  const file = join(root, "dist", "dump", "codec", `${name}.js`);
  await build({
    entryPoints: [file],
    outfile: file,
    allowOverwrite: true,
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    legalComments: "inline",
    banner: { js: licenceOf(taken) },
    ...(name === "zstd" ? { define: { fetch: "undefined" }, inject: [INSTEAD_OF_BUFFER] } : {}),
    // The package's own modules stay what they are: their errors are known by their classes.
    plugins: [
      {
        name: "own-modules",
        setup: (one) =>
          one.onResolve({ filter: /^\.\.?\// }, ({ path, importer }) =>
            importer === file ? { path, external: true } : undefined,
          ),
      },
    ],
    logLevel: "warning",
  });
}

await foldBits(join(root, "dist"), ["core", "registers"]);
plainArrays(join(root, "dist"));
