/** What the lint of style finds, in planted files and in the sources as they are. */
import { describe, expect, it } from "vitest";
import { sourcesOf, withTexts } from "../../scripts/directions/sources.js";
import { styleProblems } from "../../scripts/style/problems.js";

const OPENING = "/** What it is for. */\n";
const sources = sourcesOf();

function problemsIn(texts: Readonly<Record<string, string>>): string[] {
  const { files, read } = withTexts(sources, texts);
  return files.flatMap((path) => styleProblems(path, read(path)));
}

describe("the sources", () => {
  it("have no problem of style", () => {
    expect(problemsIn({})).toEqual([]);
  });

  it.each([
    "src/mmu/new.ts",
    "src/core/core.ts",
    "assembly/walk/new.ts",
    "assembly/abi/codes.ts",
    "test/mmu/new.test.ts",
    "bench/new.ts",
  ])("have one where %s does not say what it is for", (path) => {
    expect(problemsIn({ [path]: "export const A: u32 = 1;\n" })).toEqual([
      `${path}: expected a /** comment */ that says what the file is for in its first line`,
    ]);
  });

  it.each(["src/core/new.ts", "bench/new.ts", "scripts/new.ts", "test/mmu/new.ts"])(
    "have one where %s has a private field",
    (path) => {
      const text = `${OPENING}export class A {\n  private readonly b = 1;\n}\n`;
      expect(problemsIn({ [path]: text })).toEqual([`${path}:3: the keyword private, expected #name`]);
    },
  );
});

describe("the wall around the core", () => {
  const reach = `${OPENING}export const a = (vm) => vm.state.core.internals.linear.u64[0];\n`;

  it("is seen where src reaches through it", () => {
    expect(problemsIn({ "src/mmu/new.ts": reach })).toEqual([
      "src/mmu/new.ts:2: what lies behind src/core, expected a typed operation of it",
    ]);
    expect(styleProblems("src/cli/new.ts", `${OPENING}const b = core.linearMemory.buffer;\n`)).toHaveLength(1);
  });

  it("is open to the core itself, to tests and to benchmarks", () => {
    for (const path of ["src/core/mmu/new.ts", "test/mmu/new.ts", "bench/new.ts"]) {
      expect(styleProblems(path, reach)).toEqual([]);
    }
  });
});

describe("an opening comment", () => {
  const count = (text: string) => styleProblems("src/a.ts", text).length;

  it.each([OPENING, "/**\n * What it is for.\n */\n", `#!/usr/bin/env node\n${OPENING}`])("is %j", (text) => {
    expect(count(text)).toBe(0);
  });

  it.each([
    "",
    "\n/** Late. */",
    "// A line.\n",
    "/* Plain. */\n",
    "/** */\nconst a = 1;",
    'import "./b.js";\n/** A. */\n',
  ])("is not %j", (text) => {
    expect(count(text)).toBe(1);
  });

  it("is not asked of scripts and of what the page loads", () => {
    expect(styleProblems("scripts/a.ts", "export const a = 1;\n")).toEqual([]);
  });
});

describe("the keyword private", () => {
  const count = (body: string) => styleProblems("src/a.ts", `${OPENING}class A { ${body} }`).length;

  it.each([
    "private a = 1;",
    "private static a = 1;",
    "private a(): void {}",
    "private get a(): number { return 1; }",
    "private constructor() {}",
    "constructor(private a: number) {}",
    "constructor(b: number, private readonly a = 1) {}",
  ])("is in %s", (body) => {
    expect(count(body)).toBe(1);
  });

  it("is found in a class within a class, each time", () => {
    expect(count("private a = class { private b = 1; };")).toBe(2);
  });

  it.each(["#a = 1;", "readonly private = 1;", "/** A private matter. */ a = 'private';", "protected a = 1;"])(
    "is not in %s",
    (body) => {
      expect(count(body)).toBe(0);
    },
  );
});
