/** The lint of directions sees what it is for: circles, imports against the directions, every file. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { judgeDirections, type KnownFaults } from "../../scripts/directions/judge.js";
import { ROOT, sourcesOf, withTexts } from "../../scripts/directions/sources.js";
import { PLACES } from "../../scripts/directions.js";

const sources = sourcesOf();
const KNOWN = JSON.parse(readFileSync(join(ROOT, "scripts", "directions", "known.json"), "utf8")) as KnownFaults;

/** What is wrong when files are added, or have other texts. */
function problemsWith(texts: Record<string, string>): readonly string[] {
  return judgeDirections(withTexts(sources, texts), PLACES, KNOWN).problems;
}

/** `path` with one more line. */
const grown = (path: string, line: string) => ({ [path]: `${sources.read(path)}\n${line}\n` });

describe("the lint of directions", () => {
  it("finds nothing", () => {
    const { problems, filesRead } = judgeDirections(sources, PLACES, KNOWN);
    expect(problems).toEqual([]);
    expect(filesRead).toBe(sources.files.length);
  });

  it.skipIf(!existsSync(join(ROOT, ".git")))("reads every file that git lists", () => {
    const git = (...options: string[]) =>
      execFileSync("git", ["ls-files", ...options, "--", "*.ts", "*.tsx"], { cwd: ROOT, encoding: "utf8" })
        .split("\n")
        .filter((path) => path !== "");
    const removed = git("--deleted");
    const listed = git("--cached", "--others", "--exclude-standard").filter((path) => !removed.includes(path));
    expect(sources.files).toEqual(listed.sort());
  });

  it.each([
    ["a value", "export const a = 1;", 'import { a } from "./planted-a.js";\nexport const b = a;'],
    ["a type", "export type A = 1;", 'import type { A } from "./planted-a.js";\nexport type B = A;'],
    ["a type in place", "export type A = 1;", 'export type B = import("./planted-a.js").A;'],
    ["what is handed on", "export const a = 1;", 'export * from "./planted-a.js";'],
    ["what is loaded later", "export const a = 1;", 'export const b = () => import("./planted-a.js");'],
    ["a worker", "export const a = 1;", 'export const b = new URL("./planted-a.js", import.meta.url);'],
  ])("sees a circle in src through %s", (_, first, second) => {
    const files = ["src/role/planted-a.ts", "src/role/planted-b.ts"];
    const texts = { [files[0]!]: `import "./planted-b.js";\n${first}`, [files[1]!]: second };
    expect(problemsWith(texts)).toEqual([`a circle: ${files.join(", ")}`]);
  });

  it("sees a circle in assembly, among decorators", () => {
    const [a, b] = ["assembly/spte/planted-a.ts", "assembly/spte/planted-b.ts"];
    const text = (other: string, name: string) =>
      `import { ${other} } from "./planted-${other}";\n// @ts-ignore: decorator\n@inline export const ${name}: u32 = 1;\n`;
    expect(problemsWith({ [a]: text("b", "a"), [b]: text("a", "b") })).toEqual([`a circle: ${a}, ${b}`]);
  });

  it("sees a circle of folders whose files make none", () => {
    const text = { "src/role/planted.ts": 'import type { SpteMasks } from "../spte/masks.js";\n' };
    const back = { "src/spte/planted.ts": 'import type { x } from "../role/codec.js";\n' };
    expect(problemsWith({ ...text, ...back })).toContainEqual("a circle: src/role, src/spte");
  });

  it.each([
    ["src/core/memory/memory.ts", 'import "../../mmu/vm.js";', "src/mmu/vm.ts"],
    [
      "src/mmu/faults/faults.ts",
      'import type { x } from "../../core/linear/linear-memory.js";',
      "src/core/linear/linear-memory.ts",
    ],
    ["src/mmu/vm.ts", 'import type { x } from "../core/wasm/exports.js";', "src/core/wasm/exports.ts"],
    ["src/reference/legacy-walk.ts", 'import type { x } from "../core/load.js";', "src/core/load.ts"],
    ["src/reference/legacy-walk.ts", 'import "../spte/reserved.js";', "src/spte/reserved.ts"],
    ["assembly/walk/legacy.ts", 'import { x } from "../shadow/zap";', "assembly/shadow/zap.ts"],
    ["web/main.tsx", 'import "../src/cli/lines.js";', "src/cli/lines.ts"],
    ["web/ui/problem.tsx", 'import "../state/route.js";', "web/state/route.ts"],
    ["src/dump/formats/notes.ts", 'import "../../../test/engine.js";', "test/engine.ts"],
  ])("sees that %s imports %s", (path, line, target) => {
    expect(problemsWith(grown(path, line))).toContainEqual(
      expect.stringContaining(`${path}: imports ${target}, which it may not`),
    );
  });

  it("wants a place for every folder, and a file for every import", () => {
    expect(problemsWith({ "src/planted/a.ts": "export {};" })[0]).toContain(
      "src/planted/a.ts: its folder has no place",
    );
    expect(problemsWith(grown("src/role/codec.ts", 'import "./planted.js";'))).toEqual([
      "src/role/codec.ts: imports ./planted.js, which is no file",
    ]);
  });

  it("lets the known faults only shrink", () => {
    const circles = { ...KNOWN.circles, old: ["src/role/codec.ts", "src/role/word.ts"] };
    expect(judgeDirections(sources, PLACES, { ...KNOWN, circles }).problems).toEqual([
      expect.stringContaining("old: no longer in this known circle"),
    ]);
    const imports = { ...KNOWN.imports, "src/role/codec.ts": ["src/mmu"] };
    expect(judgeDirections(sources, PLACES, { ...KNOWN, imports }).problems).toEqual([
      expect.stringContaining("src/role/codec.ts > src/mmu: a known import that is gone"),
    ]);
  });

  it("writes down what is left as it stands in the list", () => {
    expect(judgeDirections(sources, PLACES, KNOWN).faults).toEqual(KNOWN);
  });

  it("refuses directions that lead in a circle, and places that are none", () => {
    const more = (place: string, entry: string) =>
      PLACES.map((one) => (one.place === place ? { place, mayImport: [...one.mayImport, entry] } : one));
    const problemsOf = (places: typeof PLACES) => judgeDirections(sources, places, KNOWN).problems;
    expect(problemsOf(more("src/core", "src/mmu"))).toContainEqual(expect.stringContaining("a circle is allowed"));
    expect(problemsOf(more("src/core", "src/moo"))).toContainEqual(
      expect.stringContaining("src/moo, which is no place"),
    );
  });
});
