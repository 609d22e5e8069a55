/**
 * `npm run bench [-- --quick] [-- --only WORD] [-- --write]`: measures everything in one process and prints a Markdown
 * table; `--write` also writes docs/benchmarks.json, docs/benchmarks.md and docs/benchmarks.svg.
 */
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { measureEnumeration } from "./enumerate.js";
import { loadNative } from "./native.js";
import { chart, markdown, type Section } from "./report.js";
import { measureV86 } from "./v86.js";
import { CASES, measureCase, measureTlb } from "./walks.js";

const args = process.argv.slice(2);
const only = args.includes("--only") ? args[args.indexOf("--only") + 1]! : "";
const options = args.includes("--quick") ? { rounds: 7, time: 5 } : { rounds: 25, time: 12 };

const loaded = loadNative();
const native = typeof loaded === "string" ? undefined : loaded;
if (typeof loaded === "string") console.error(`no native candidate: ${loaded}; the first row is the baseline instead`);

const CHARTED = ["L1, random, tables contiguous", "L2, random", "DRAM, random", "L1, 10 % faults"];
const sections: Section[] = [];
const wanted = (title: string) => title.toLowerCase().includes(only.toLowerCase());
const add = (section: Section) => {
  sections.push(section);
  console.log(`${markdown([section])}\n`);
};
for (const one of CASES) if (wanted(one.title)) add(measureCase(one, native, options));
if (wanted("Software TLB")) add(measureTlb(native, options));
if (wanted("Enumeration")) for (const section of measureEnumeration(native, options)) add(section);
if (wanted("v86")) for (const section of measureV86(options)) add(section);

if (args.includes("--write")) {
  const docs = join(dirname(fileURLToPath(import.meta.url)), "..", "docs");
  const machine = { processor: cpus()[0]!.model, node: process.version, v8: process.versions.v8 };
  writeFileSync(join(docs, "benchmarks.json"), `${JSON.stringify({ machine, sections }, undefined, 2)}\n`);
  writeFileSync(
    join(docs, "benchmarks.md"),
    `# Measurements\n\n${machine.processor}, Node ${machine.node}.\n\n${markdown(sections)}\n`,
  );
  writeFileSync(join(docs, "benchmarks.svg"), chart(sections.filter(({ title }) => CHARTED.includes(title))));
}
