/** docs/kernels.md has the table of rules as it is. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { kernelRows } from "../../scripts/kernel-table.js";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

it("docs/kernels.md has a row for each rule, and no other", () => {
  const rows = readFileSync(join(ROOT, "docs", "kernels.md"), "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  expect(rows).toEqual(kernelRows);
});
