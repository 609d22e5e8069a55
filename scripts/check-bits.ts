/**
 * Lints bits that stand as bare numbers (bits/bare.ts) outside src/abi and assembly/abi, against the numbers of today
 * (bits/known.json): a file may not have more, and where it has fewer the list has to say so.
 *
 *     tsx scripts/check-bits.ts [--list] [--update]
 *
 * `--list` prints each; `--update` writes the list, unless there are more in all than before.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bareBitsIn } from "./bits/bare.js";
import { bitProblems, type Counts } from "./bits/counts.js";
import { ROOT, sourcesOf } from "./directions/sources.js";
import { parse } from "./syntax/parse.js";

const { values: options } = parseArgs({ options: { list: { type: "boolean" }, update: { type: "boolean" } } });
const KNOWN = join(ROOT, "scripts", "bits", "known.json");

const { files, read } = sourcesOf();
const counts: Record<string, number> = {};
for (const path of files.filter((one) => /^(?:src|assembly)\/(?!abi\/)/.test(one))) {
  const text = read(path);
  const places = bareBitsIn(text, parse(path, text));
  if (places.length > 0) counts[path] = places.length;
  if (!options.list) continue;
  for (const place of places) {
    const before = text.slice(0, place).split("\n");
    console.log(`${path}:${before.length}: ${text.split("\n")[before.length - 1]!.trim()}`);
  }
}

const sum = (all: Counts) => Object.values(all).reduce((one, other) => one + other, 0);
const known = JSON.parse(readFileSync(KNOWN, "utf8")) as Counts;
if (options.update && sum(counts) <= sum(known)) writeFileSync(KNOWN, `${JSON.stringify(counts, null, 2)}\n`);
else {
  const problems = bitProblems(counts, known);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
console.log(`${sum(counts)} bare bits in ${Object.keys(counts).length} files`);
