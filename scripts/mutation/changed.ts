/** Which lines a branch changed. */
import { execFileSync } from "node:child_process";
import { ROOT } from "../directions/sources.js";

function git(...command: string[]): string {
  return execFileSync("git", command, { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28 });
}

/** Where the branch left `main`. */
export function mergeBase(): string {
  return git("merge-base", "HEAD", "main").trim();
}

/** For each file below `folders` the lines that differ from `base`, in the files as they lie there, committed or not. */
export function changedLines(base: string, folders: readonly string[]): Map<string, Set<number>> {
  return linesOf(git("diff", "--unified=0", "--no-color", "--find-renames", base, "--", ...folders));
}

/** The new side's lines of a diff without context. A pure removal marks the lines around it. */
export function linesOf(diff: string): Map<string, Set<number>> {
  const lines = new Map<string, Set<number>>();
  let current = new Set<number>();
  for (const line of diff.split("\n")) {
    const file = /^\+\+\+ b\/(.*)$/.exec(line)?.[1];
    if (file !== undefined) {
      current = new Set();
      lines.set(file, current);
    }
    const hunk = /^@@ -\S+ \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (hunk === null) continue;
    const [first, count] = [Number(hunk[1]), Number(hunk[2] ?? 1)];
    if (count === 0) current.add(first).add(first + 1);
    for (let at = first; at < first + count; at++) current.add(at);
  }
  return lines;
}
