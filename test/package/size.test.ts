/** The package keeps its size budget. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { bundleEntry } from "./bundle.js";
import { ROOT } from "./packed.js";

it("the package keeps its size budget", async () => {
  const wasm = readFileSync(join(ROOT, "dist", "core.wasm"));
  const { code } = await bundleEntry("x86-paging");
  const [module, role] = await Promise.all(["x86-paging/core", "x86-paging/role"].map((name) => bundleEntry(name)));
  const inlined = wasm.toString("base64");
  expect(Buffer.from(code).includes(inlined)).toBe(true);
  // What bits mean in words is for decoders.
  expect(Buffer.from(code).includes("8-byte paging-structure entries")).toBe(false);
  // Nobody else carries it.
  expect(Buffer.from(module!.code).includes(inlined.slice(0, 1000))).toBe(false);

  // Bytes, and the budget. Whoever raises a budget says why in the change that does it.
  const sizes: readonly (readonly [string, number, number?])[] = [
    ["dist/core.wasm", wasm.length, 64 * 1024],
    ["dist/core.wasm, brotli", brotliCompressSync(wasm).length, 24 * 1024],
    ["bundle less the Wasm", code.length - inlined.length, 88_000],
    ["/core, brought Wasm", module!.code.length, 88_000],
    ["/role alone", role!.code.length, 22_000],
    // Of which a third is the core with its Wasm, in the worker that walks.
    ["dist/web, scripts", siteScripts(), 1_650_000],
    ["bundle", code.length],
    ["bundle, gzip", gzipSync(code).length],
  ];
  console.log(sizes.map(([name, size, budget = ""]) => `${name.padEnd(26)}${pad(size)}${pad(budget)}`).join("\n"));
  expect(sizes.filter(([, size, budget]) => size > (budget ?? size))).toEqual([]);
});

/** Bytes of the inspector's scripts. */
function siteScripts(): number {
  const assets = join(ROOT, "dist", "web", "assets");
  return readdirSync(assets)
    .filter((name) => name.endsWith(".js"))
    .reduce((sum, name) => sum + statSync(join(assets, name)).size, 0);
}

const pad = (value: number | string): string => `${value}`.padStart(8);
