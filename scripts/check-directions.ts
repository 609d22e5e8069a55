/** Lints who imports whom: directions (directions.ts), circles of files and of places. Every source file is read. */
import { judgeDirections } from "./directions/judge.js";
import { KNOWN } from "./directions/known.js";
import { sourcesOf } from "./directions/sources.js";
import { PLACES } from "./directions.js";

const { problems, filesRead } = judgeDirections(sourcesOf(), PLACES, KNOWN);
for (const problem of problems) console.error(problem);
const [circles, imports] = [Object.keys(KNOWN.circles).length, KNOWN.imports.length];
console.log(
  `${filesRead} files read; ${circles} known circles and ${imports} known imports against the directions left`,
);
process.exitCode = problems.length === 0 ? 0 : 1;
