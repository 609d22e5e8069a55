/** The lint of directions sees what it is for: circles, imports against the directions, every file. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { judgeDirections } from "../../scripts/directions/judge.js";
import { KNOWN } from "../../scripts/directions/known.js";
import { ROOT, sourcesOf, withTexts } from "../../scripts/directions/sources.js";
import { PLACES } from "../../scripts/directions.js";

const sources = sourcesOf();

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
    const listed = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "*.ts", "web/*.js"], { cwd: ROOT });
    expect(sources.files).toEqual(listed.toString().trim().split("\n").sort());
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
    ["src/core/memory.ts", 'import "../mmu/vm.js";', "src/mmu/vm.ts"],
    ["src/reference/legacy-walk.ts", 'import type { x } from "../core/load.js";', "src/core/load.ts"],
    ["src/reference/legacy-walk.ts", 'import "../spte/reserved.js";', "src/spte/reserved.ts"],
    ["assembly/walk/legacy.ts", 'import { x } from "../shadow/zap";', "assembly/shadow/zap.ts"],
    ["web/walk.js", 'import "../dist/cli/lines.js";', "src/cli/lines.ts"],
    ["src/dump/notes.ts", 'import "../../test/engine.js";', "test/engine.ts"],
  ])("sees that %s imports %s", (path, line, target) => {
    expect(problemsWith(grown(path, line))).toContainEqual(
      expect.stringContaining(`${path}: imports ${target}, which `),
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
    const gone = { "assembly/walk/second-stage.ts": "export function walkSecondStage(): void {}\n" };
    expect(problemsWith(gone)).toContainEqual(expect.stringContaining("no longer in this known circle"));
    const imports = [...KNOWN.imports, ["src/role/codec.ts", "src/mmu"] as const];
    expect(judgeDirections(sources, PLACES, { ...KNOWN, imports }).problems).toEqual([
      "src/role/codec.ts > src/mmu: a known import that is gone: take it off the list",
    ]);
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
