/** What the packed package contains, and that its types and entries are right. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENTRIES, EXPORTED, type PackedFile, pack, ROOT, runTool, temporaryFolder } from "./packed.js";

const folder = temporaryFolder();
let tarball: string;
let files: readonly PackedFile[];

beforeAll(async () => {
  ({ tarball, files } = await pack(folder.path));
});
afterAll(() => folder.remove());

describe("the packed package", () => {
  it("has the file of every export, with declarations for every module", () => {
    const packed = files.map((file) => `./${file.path}`);
    expect(EXPORTED.filter((path) => !packed.includes(path))).toEqual([]);
    expect(ENTRIES.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["x86-paging", "x86-paging/reference", "x86-paging/dump", "x86-paging/dump/node"]),
    );
  });

  it("has declarations that older versions of TypeScript read", () => {
    const declarations = files.map(({ path }) => path).filter((path) => path.endsWith(".d.ts"));
    expect(declarations.length).toBeGreaterThan(100);
    // Types of 5.7 and of the library for asynchronous disposal; npm run test:matrix compiles with 5.0.
    const newer = /Array<ArrayBuffer|DataView<|ArrayBufferView<|AsyncDisposable|\bNoInfer</;
    expect(declarations.filter((path) => newer.test(readFileSync(join(ROOT, path), "utf8")))).toEqual([]);
  });

  it("has a reference page for every module", () => {
    const { entryPoints } = JSON.parse(readFileSync(join(ROOT, "scripts", "reference", "typedoc.json"), "utf8"));
    const sources = ENTRIES.map(({ file }) => file.replace(/^dist(.*)\.js$/, "../../src$1.ts"));
    expect([...entryPoints].sort()).toEqual(sources.sort());
  });

  it("has nothing but what is built, examples and documents", () => {
    const expected =
      /^(dist\/.*\.(js|d\.ts)|dist\/web\/(index\.html|assets\/[^/]+\.(css|gz))|dist\/core(\.shared)?(\.d)?\.wasm(\.ts)?|examples\/[^/]+\.(gz|mjs|html)|docs\/[^/]+\.(md|json|sh|svg)|package\.json|[A-Z]+(\.md)?)$/;
    expect(files.map((file) => file.path).filter((path) => !expected.test(path))).toEqual([]);
  });

  it("gives publint nothing to say", async () => {
    const { code, stdout, stderr } = await runTool("publint", [tarball, "--strict"], ROOT);
    expect(stdout + stderr).toMatch(/All good!\s*$/);
    expect(code).toBe(0);
  });

  it("gives are-the-types-wrong nothing to say of its modules", async () => {
    const { code, stdout, stderr } = await runTool(
      "attw",
      [tarball, "--format", "json", "--exclude-entrypoints", "core.wasm", "core.shared.wasm"],
      ROOT,
    );
    const { analysis } = JSON.parse(stdout) as { analysis: Analysis };
    // Whoever requires it or resolves as Node 10 did is told that there are ES modules only: that is intended.
    const problems = Object.values(analysis.problems)
      .flat()
      .filter(({ resolutionKind }) => resolutionKind !== "node10" && resolutionKind !== "node16-cjs");
    expect(problems).toEqual([]);
    expect(Object.keys(analysis.entrypoints).length).toBe(ENTRIES.length + 1);
    expect(stderr).toBe("");
    expect(code).toBe(0);
  });
});

interface Analysis {
  readonly problems: Readonly<Record<string, readonly { readonly resolutionKind?: string }[]>>;
  readonly entrypoints: Readonly<Record<string, unknown>>;
}
