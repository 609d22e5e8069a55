/**
 * Plants mistakes in src, one at a time, with Stryker (scripts/stryker), and lists those that no test notices.
 *
 *     npm run mutate:src -- [--only PATH]... [--changed [BASE]]
 *
 * PATH is a file or folder of src (default: all, which takes hours); `--changed` takes only lines that differ from BASE
 * (default: where the branch left main). Stryker's sandbox asks TypeScript's compiler interface, which TypeScript 7 does not
 * have, for tsconfig.json: its configuration names a file that is not there, so that it does without.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT, sourcesOf } from "./directions/sources.js";
import { changedLines, mergeBase } from "./mutation/changed.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: "string", multiple: true }, changed: { type: "boolean", default: false } },
});
if (positionals.length > 0 && !options.changed) throw new Error(`${positionals[0]}: expected --only PATH`);

const only = (options.only ?? ["src"]).map((one) => one.replace(/\/$/, ""));
const lines = options.changed ? changedLines(positionals[0] ?? mergeBase(), ["src"]) : undefined;
const files = sourcesOf()
  .files.filter((path) => path.startsWith("src/"))
  .filter((path) => only.some((one) => path === one || path.startsWith(`${one}/`)));
const places = files.flatMap((path) => {
  if (lines === undefined) return [path];
  return rangesOf([...(lines.get(path) ?? [])]).map(([first, last]) => `${path}:${first}-${last}`);
});

/** Lines that follow each other, as first and last. */
function rangesOf(numbers: readonly number[]): [number, number][] {
  const ranges: [number, number][] = [];
  for (const line of [...numbers].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && line <= last[1] + 1) last[1] = line;
    else ranges.push([line, line]);
  }
  return ranges;
}

if (places.length === 0) console.error("nothing to plant a mistake in");
else {
  const stryker = join("scripts", "stryker", "node_modules", "@stryker-mutator", "core", "bin", "stryker.js");
  const command = [stryker, "run", "scripts/stryker/stryker.config.json", "--mutate", places.join(",")];
  process.exitCode = spawnSync(process.execPath, command, { cwd: ROOT, stdio: "inherit" }).status ?? 1;
}
