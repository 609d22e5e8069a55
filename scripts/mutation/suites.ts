/** Asking vitest whether it notices a mistake that lies in the tree. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Tree } from "./tree.js";

/** Seconds after which a run counts as one that never ends. */
const LIMIT = 240;

interface Nearest {
  readonly prefix: string;
  readonly tests: readonly string[];
  /** Of vitest.config.ts; default all. */
  readonly projects?: readonly string[];
}

/** The tests that state the rules of a folder, asked before all others. */
const NEAREST: readonly Nearest[] = [
  { prefix: "src/maps", tests: ["test/maps", "test/cli/dumps"] },
  { prefix: "src/dump", tests: ["test/dump"] },
  { prefix: "src/role", tests: ["test/role"] },
  { prefix: "src/spte", tests: ["test/spte"] },
  { prefix: "src/cli", tests: ["test/cli"] },
  { prefix: "src/conform", tests: ["test/conform"] },
  { prefix: "src/core", tests: ["test/core", "test/differential"], projects: ["package"] },
  { prefix: "src/reference", tests: ["test/walk", "test/spte", "test/conform"], projects: ["reference", "package"] },
  { prefix: "assembly/tdp", tests: ["test/mmu/tdp", "test/mmu/dirty-log", "test/mmu/direct"], projects: ["package"] },
  { prefix: "assembly/shadow", tests: ["test/mmu"], projects: ["package"] },
  { prefix: "assembly/spte", tests: ["test/spte", "test/mmu"], projects: ["package"] },
  { prefix: "src/mmu", tests: ["test/mmu"], projects: ["package"] },
  {
    prefix: "",
    tests: ["test/walk", "test/conform", "test/core", "test/differential/kernels"],
    projects: ["wasm", "package"],
  },
];

/** Built packages and browsers: they say nothing of a rule that the others do not say, and take long. */
const LEFT_OUT = ["package", "browser", "fixtures"];

/** Whether the tests nearest to `path` pass with the tree as it is. */
export function nearestPass(tree: Tree, path: string): Promise<boolean> {
  const { tests, projects = [] } = NEAREST.find(({ prefix }) => path.startsWith(prefix))!;
  const isThere = (one: string) => existsSync(join(tree.root, one)) || existsSync(join(tree.root, `${one}.test.ts`));
  const chosen = projects.flatMap((project) => ["--project", project]);
  return vitest(tree, [...chosen, ...tests.filter(isThere)]);
}

/** Whether all tests pass. */
export function allPass(tree: Tree): Promise<boolean> {
  const folders = readdirSync(join(tree.root, "test"), { withFileTypes: true })
    .filter((one) => one.isDirectory() && !LEFT_OUT.includes(one.name))
    .map((one) => `test/${one.name}/`);
  return vitest(tree, folders);
}

function vitest(tree: Tree, extra: readonly string[]): Promise<boolean> {
  const command = [join("node_modules", "vitest", "vitest.mjs"), "run", "--bail", "1", "--reporter", "dot"];
  const child = spawn(process.execPath, [...command, "--maxWorkers", "1", ...extra], {
    cwd: tree.root,
    stdio: "ignore",
    timeout: LIMIT * 1000,
    killSignal: "SIGKILL",
  });
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code === 0));
  });
}
