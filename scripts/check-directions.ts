/**
 * Lints who imports whom: directions (directions.ts), circles of files and of places. Every source file is read.
 *
 *     tsx scripts/check-directions.ts [--update]
 *
 * What is wrong today stands in directions/known.json and may only become less; `--update` writes that list, unless there
 * is more in all than before.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { judgeDirections, type KnownFaults, sizeOf } from "./directions/judge.js";
import { ROOT, sourcesOf } from "./directions/sources.js";
import { PLACES } from "./directions.js";

const { values: options } = parseArgs({ options: { update: { type: "boolean" } } });
const KNOWN = join(ROOT, "scripts", "directions", "known.json");

const known = JSON.parse(readFileSync(KNOWN, "utf8")) as KnownFaults;
const { problems, filesRead, faults } = judgeDirections(sourcesOf(), PLACES, known);
if (options.update && sizeOf(faults) <= sizeOf(known)) writeFileSync(KNOWN, `${JSON.stringify(faults, null, 2)}\n`);
else {
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
const imports = Object.values(faults.imports).flat().length;
const circles = Object.values(faults.circles).map((circle) => ` (${circle.length})`);
console.log(
  `${filesRead} files read; known faults left: ${circles.length} circles${circles.join("")}, ` +
    `${imports} imports against the directions`,
);
