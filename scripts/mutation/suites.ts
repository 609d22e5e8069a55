/** Asking vitest whether it notices a mistake that lies in the tree. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Tree } from "./tree.js";

/** Seconds after which a run counts as one that never ends. */
const LIMIT = 240;

/** The tests that state the rules of a folder, asked before all others. */
const NEAREST: readonly (readonly [prefix: string, ...tests: string[]])[] = [
  ["src/maps", "test/maps", "test/cli/dumps"],
  ["src/dump", "test/dump"],
  ["src/role", "test/role"],
  ["src/spte", "test/spte"],
  ["src/cli", "test/cli"],
  ["src/conform", "test/conform"],
  ["src/core", "test/core", "test/differential"],
  ["src/reference", "test/walk", "test/spte", "test/conform"],
  ["", "test/walk", "test/conform", "test/core", "test/differential"],
];

/** Built packages and browsers: they say nothing of a rule that the others do not say, and take long. */
const LEFT_OUT = ["test/package/**", "test/browser/**"];

/** Whether every test passes with the tree as it is; the nearest ones to `path` are asked first. */
export async function testsPass(tree: Tree, path: string): Promise<boolean> {
  const [, ...nearest] = NEAREST.find(([prefix]) => path.startsWith(prefix))!;
  const there = nearest.filter(
    (one) => existsSync(join(tree.root, one)) || existsSync(join(tree.root, `${one}.test.ts`)),
  );
  return (await vitest(tree, there)) && (await vitest(tree, []));
}

function vitest(tree: Tree, filters: readonly string[]): Promise<boolean> {
  const excluded = LEFT_OUT.flatMap((pattern) => ["--exclude", pattern]);
  const command = [
    join("node_modules", "vitest", "vitest.mjs"),
    "run",
    "--bail",
    "1",
    "--reporter",
    "dot",
    ...excluded,
  ];
  const child = spawn(process.execPath, [...command, "--maxWorkers", "1", ...filters], {
    cwd: tree.root,
    stdio: "ignore",
    timeout: LIMIT * 1000,
    killSignal: "SIGKILL",
  });
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code === 0));
  });
}
