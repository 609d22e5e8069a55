/** Paths that documents name are there, and the MMU's document says what each public member is for. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Vcpu, VirtualMachine } from "../../src/mmu/index.js";

const ROOT = join(import.meta.dirname, "../..");
const DOCS = ["README.md", "CONTRIBUTING.md", ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`)].filter(
  (name) => name.endsWith(".md"),
);
const PATH = /`((?:assembly|src|test|bench|scripts|docs|web)\/[\w./-]*\w)\/?`/g;

it.each(DOCS)("%s names files and folders that are there", (doc) => {
  const named = [...readFileSync(join(ROOT, doc), "utf8").matchAll(PATH)].map(([, path]) => path!);
  expect(named.filter((path) => !existsSync(join(ROOT, path)) && !existsSync(join(ROOT, `${path}.ts`)))).toEqual([]);
});

it("sees a path that is not there", () => {
  const named = [..."walks are in `assembly/walk/` and `src/nothing.ts`".matchAll(PATH)].map(([, path]) => path);
  expect(named).toEqual(["assembly/walk", "src/nothing.ts"]);
});

it.each([
  ["VirtualMachine", VirtualMachine],
  ["Vcpu", Vcpu],
])("docs/shadow-mmu.md says what each public member of %s is for", (name, { prototype }) => {
  const text = readFileSync(join(ROOT, "docs/shadow-mmu.md"), "utf8");
  const [, table = ""] = text.split(`| \`${name}\` | |`);
  const [rows = ""] = table.split("\n\n");
  const described = new Set([...rows.matchAll(/`(\w+)`/g)].map(([, member]) => member));
  const members = Object.getOwnPropertyNames(prototype).filter((member) => member !== "constructor");
  expect(members.filter((member) => !described.has(member))).toEqual([]);
});
