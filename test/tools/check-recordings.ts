/**
 * Compares what the role and SPTE code computes with what recorded kernels held, over whole
 * folders of recordings: `npx tsx test/tools/check-recordings.ts FOLDER...`, where a folder is
 * searched for scenario.json.gz. Prints counts and the first disagreements; exit 1 if there are any.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { type Scenario, Tally } from "./scenario.js";
import { checkScenario } from "./scenario-checks.js";

function* scenarios(path: string): Generator<string> {
  if (statSync(path).isDirectory()) {
    for (const name of readdirSync(path).sort()) yield* scenarios(join(path, name));
  } else if (path.endsWith("scenario.json.gz")) yield path;
}

const tally = new Tally();
let files = 0;
for (const folder of process.argv.slice(2)) {
  for (const file of scenarios(folder)) {
    const scenario = JSON.parse(gunzipSync(readFileSync(file)).toString()) as Scenario;
    checkScenario(scenario, tally, file.split("/").slice(-3, -1).join("/"));
    files++;
  }
}
console.log(`${files} recordings`);
for (const line of tally.report()) console.log(line);
process.exitCode = tally.disagreements === 0 ? 0 : 1;
