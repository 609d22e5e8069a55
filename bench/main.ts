/**
 * `npm run bench [-- --quick] [-- --only WORD] [-- --write]`: measures everything in one process and prints Markdown tables;
 * `--write` also writes docs/benchmarks.json, docs/benchmarks.md and the pictures. `x86-paging bench` runs the same suite
 * from the installed package, without the candidates that a compiler or v86 is needed for.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Curve } from "./growth.js";
import { chart, curveChart, curveMarkdown, markdown, type Section } from "./report.js";
import { benchmarks } from "./suite.js";

const args = process.argv.slice(2);
const only = args.includes("--only") ? args[args.indexOf("--only") + 1]! : "";
const { units, notes } = benchmarks.units({ quick: args.includes("--quick"), only });

const CHARTED = ["L1, random", "L2, random", "DRAM, random", "L1, 10 % faults"];
const CHARTED_FAULTS = ["Shadow fault, spurious, 1,024 pages", "Shadow fault, cold, 1,024 pages"];

interface Measured {
  readonly machine: ReturnType<typeof benchmarks.machine>;
  readonly sections: readonly Section[];
  readonly curves: readonly Curve[];
}

const sections: Section[] = [];
const curves: Curve[] = [];
for (const unit of units) {
  const found = unit.run();
  for (const section of found.sections ?? []) {
    sections.push(section);
    console.log(`${markdown([section])}\n`);
  }
  if (found.curves !== undefined) {
    curves.push(...found.curves);
    console.log(`${curveMarkdown(found.curves)}\n`);
  }
}
for (const note of notes) console.error(note);

/** What was measured now, and what was before of all else. */
function renewed(file: string): Measured {
  const machine = benchmarks.machine();
  if (only === "" || !existsSync(file)) return { machine, sections, curves };
  const old = JSON.parse(readFileSync(file, "utf8")) as Partial<Measured>;
  const kept = [...(old.sections ?? [])].map((one) => sections.find(({ title }) => title === one.title) ?? one);
  const added = sections.filter((one) => !kept.includes(one));
  return { machine, sections: [...kept, ...added], curves: curves.length > 0 ? curves : (old.curves ?? []) };
}

if (args.includes("--write")) {
  const docs = join(dirname(fileURLToPath(import.meta.url)), "..", "docs");
  const all = renewed(join(docs, "benchmarks.json"));
  const { processor, node } = all.machine;
  const texts = [`# Measurements\n\n${processor}, Node ${node}.`, markdown(all.sections), curveMarkdown(all.curves)];
  const charted = (titles: readonly string[]) => all.sections.filter(({ title }) => titles.includes(title));
  writeFileSync(join(docs, "benchmarks.json"), `${JSON.stringify(all, undefined, 2)}\n`);
  writeFileSync(join(docs, "benchmarks.md"), `${texts.join("\n\n")}\n`);
  writeFileSync(join(docs, "benchmarks.svg"), chart(charted(CHARTED), "Time by that of native C"));
  writeFileSync(
    join(docs, "benchmarks-faults.svg"),
    chart(charted(CHARTED_FAULTS), "Time by that of the loop inside Wasm"),
  );
  writeFileSync(join(docs, "benchmarks-growth.svg"), curveChart(all.curves));
}
