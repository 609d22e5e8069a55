/** The types of the core's exports, which are written by hand, against the compiled Wasm. */
import { readFileSync } from "node:fs";
import { parseSync } from "oxc-parser";
import { expect, it } from "vitest";
import { wasmBytes } from "../../src/core/index.js";

const KINDS: Readonly<Record<number, string>> = { 127: "i32", 126: "i64", 125: "f32", 124: "f64" };

/** Signatures of the functions that a module exports, by name: "i32 i64 -> i32". Imports of functions there are none. */
function exportedFunctions(bytes: Uint8Array): Map<string, string> {
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  const list = <T>(read: () => T): T[] => Array.from({ length: number() }, read);
  const kinds = () => list(() => KINDS[bytes[at++]!]!).join(" ");
  let types: string[] = [];
  let functions: number[] = [];
  const found = new Map<string, string>();
  while (at < bytes.length) {
    const id = bytes[at++]!;
    const end = number() + at;
    if (id === 1) {
      types = list(() => {
        at++;
        return `${kinds()} -> ${kinds()}`;
      });
    } else if (id === 3) functions = list(number);
    else if (id === 7) {
      list(() => {
        const length = number();
        const name = new TextDecoder().decode(bytes.subarray(at, at + length));
        at += length;
        const kind = bytes[at++]!;
        const index = number();
        if (kind === 0) found.set(name, types[functions[index]!]!);
      });
    }
    at = end;
  }
  return found;
}

interface Annotation {
  readonly typeAnnotation: { readonly typeAnnotation: { readonly type: string } };
}

/** The same of the methods of an interface: numbers are "number", which stands for i32 and f64. */
function declaredFunctions(path: string): Map<string, string> {
  const { program } = parseSync(path, readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"));
  const words: Readonly<Record<string, string>> = {
    TSNumberKeyword: "number",
    TSBigIntKeyword: "i64",
    TSVoidKeyword: "",
  };
  const found = new Map<string, string>();
  for (const statement of program.body) {
    if (statement.type !== "ExportNamedDeclaration" || statement.declaration?.type !== "TSInterfaceDeclaration")
      continue;
    for (const member of statement.declaration.body.body) {
      if (member.type !== "TSMethodSignature") throw new Error(`${path}: ${member.type}, expected methods only`);
      const kind = (of: Annotation) => words[of.typeAnnotation.typeAnnotation.type] ?? "unknown";
      const parameters = member.params.map((one) => kind(one as unknown as Annotation)).join(" ");
      const name = (member.key as unknown as { readonly name: string }).name;
      found.set(name, `${parameters} -> ${kind({ typeAnnotation: member.returnType } as unknown as Annotation)}`);
    }
  }
  return found;
}

it("every export of the core is declared with the types that it has, and nothing else is declared", () => {
  const wasm = new Map(
    [...exportedFunctions(wasmBytes())].map(([name, type]) => [name, type.replace(/i32|f64/g, "number")]),
  );
  const declared = new Map([
    ...declaredFunctions("src/core/wasm/exports.ts"),
    ...declaredFunctions("src/core/wasm/shadow-exports.ts"),
  ]);
  expect(Object.fromEntries([...declared].sort())).toEqual(Object.fromEntries([...wasm].sort()));
  expect(wasm.size).toBeGreaterThan(50);
});
