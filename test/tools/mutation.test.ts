/** Which mistakes the mutation tool plants, and where. */
import { describe, expect, it } from "vitest";
import { linesOf } from "../../scripts/mutation/changed.js";
import { mutantsIn, withMutant } from "../../scripts/mutation/operators.js";
import { sampleOf } from "../../scripts/mutation/sample.js";
import { parse } from "../../scripts/syntax/parse.js";

const PATH = "assembly/planted.ts";

/** What becomes of `body` in a function of the core, mistake by mistake. */
function planted(body: string): string[] {
  const before = "@inline export function f(a: u32, b: u32): u32 { ";
  const text = `${before}${body} }`;
  return mutantsIn(PATH, text).map((one) => withMutant(text, one).slice(before.length, -2));
}

describe("mistakes", () => {
  it.each([
    ["a = b;", [";"]],
    ["return f(a, b);", ["return 0;"]],
    ["return 0;", ["return 1;"]],
    ["a += b;", [";", "a -= b;"]],
    ["a++;", [";", "a--;"]],
    ["return;", []],
    ["if (a) return;", ["if (!(a)) return;"]],
    ["while (a) g();", ["while (false) g();", "while (a) ;"]],
    ["do g(); while (a)", ["do ; while (a)", "do g(); while (false)"]],
    ["for (a = b; a; ) g();", ["for (; a; ) g();", "for (a = b; false; ) g();", "for (a = b; a; ) ;"]],
    ["const c = <u32>~a;", ["const c = <u32>a;"]],
    ["const c = true;", ["const c = false;"]],
    ["const c = 0xff;", ["const c = 254;", "const c = 256;"]],
    ["const c = a < b;", ["const c = a <= b;", "const c = a >= b;"]],
    ["const c = a && b;", ["const c = a;", "const c = b;", "const c = a || b;"]],
    ["const c = a ? b : f;", ["const c = !(a) ? b : f;"]],
    ["const c = a /* < */ == b;", ["const c = a /* < */ != b;"]],
  ])("in %s", (body, mistakes) => {
    expect(planted(body).sort()).toEqual([...mistakes].sort());
  });

  it("are those of what a file does, not of its imports, types and decorators", () => {
    const text = 'import { a } from "./a";\n@unmanaged class C { x: u32; }\nexport declare function f(a: u32): u32;\n';
    expect(mutantsIn(PATH, text)).toEqual([]);
  });

  it("leave a file that can be parsed, and name the line and what stood there", () => {
    const text =
      "function f(a: u32): u32 {\n  for (let i: u32 = 0; i < a; i++) a |= <u32>1 << i;\n  return a & ~7;\n}\n";
    const mutants = mutantsIn(PATH, text);
    expect(mutants.length).toBeGreaterThan(15);
    for (const one of mutants) {
      expect(() => parse(PATH, withMutant(text, one))).not.toThrow();
      expect(text.split("\n")[one.line - 1]).toContain(one.original);
      expect(withMutant(text, one)).not.toBe(text);
    }
  });
});

it("takes the lines that a diff adds, changes, or that stand beside what it removes", () => {
  const diff = `diff --git a/x.ts b/y.ts
--- a/x.ts
+++ b/y.ts
@@ -3 +3 @@ function f
-old
+new
@@ -10,0 +11,2 @@
+one
+two
@@ -20,3 +22,0 @@
-gone
`;
  expect([...linesOf(diff)]).toEqual([["y.ts", new Set([3, 11, 12, 22, 23])]]);
});

it("samples the same for the same seed, in order", () => {
  const list = Array.from({ length: 100 }, (_, index) => index);
  const some = sampleOf(list, 10, 7);
  expect(some).toHaveLength(10);
  expect(some).toEqual([...some].sort((a, b) => a - b));
  expect(sampleOf(list, 10, 7)).toEqual(some);
  expect(sampleOf(list, 10, 8)).not.toEqual(some);
});
