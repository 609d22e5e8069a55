/** `x86-paging bench`: the benchmarks that need nothing but the package. */

import type { Command } from "commander";
import { jsonText } from "../../json-text.js";
import { type BenchmarkCurve, type BenchmarkSection, loadBenchmarks } from "../benchmarks.js";
import type { CliContext } from "../context.js";
import { CliError } from "../errors.js";
import { startProgress } from "../progress.js";

interface BenchOptions {
  quick?: boolean;
  only: string;
  list?: boolean;
  json?: boolean;
}

export function registerBench(program: Command, context: CliContext): void {
  program
    .command("bench")
    .description("measure this package on this machine: walks, faults of the MMU, and what grows with their number")
    .option("--quick", "fewer and shorter rounds, and smaller sizes")
    .option("--only <word>", "those whose title has the word, e.g. shadow or growth", "")
    .option("--list", "print the titles, and measure nothing")
    .option("--json", "everything as one JSON object, instead of tables")
    .addHelpText(
      "after",
      "\nTimes are medians of short rounds in which the candidates take turns; a ratio is to the first row of its table." +
        "\nWithout --quick it takes minutes, and up to 3 GB of memory for the largest sizes of the growth." +
        "\n\nExamples:\n  x86-paging bench --quick\n  x86-paging bench --only shadow\n  x86-paging bench --json > benchmarks.json",
    )
    .action((options: BenchOptions) => bench(context, options));
}

async function bench(context: CliContext, { quick = false, only, list, json }: BenchOptions): Promise<void> {
  const benchmarks = await loadBenchmarks();
  const { units, notes } = benchmarks.units({ quick, only });
  if (units.length === 0) {
    // What is left out may be just what was asked for.
    throw new CliError(notes[0] ?? `no benchmark has "${only}" in its title; --list prints the titles`);
  }
  if (list) {
    for (const title of new Set(units.map((unit) => unit.title))) await context.out.line(title);
    return;
  }
  const sections: BenchmarkSection[] = [];
  const curves: BenchmarkCurve[] = [];
  const progress = startProgress(context.io, "Benchmarks", units.length);
  try {
    for (const [done, unit] of units.entries()) {
      const found = unit.run();
      sections.push(...(found.sections ?? []));
      curves.push(...(found.curves ?? []));
      progress.update(done + 1);
      if (!json) {
        for (const section of found.sections ?? []) await context.out.lines(`${benchmarks.sectionText(section)}\n`);
        if (found.curves !== undefined) await context.out.lines(benchmarks.curveText(found.curves));
      }
      // Each table is seen as soon as it is there.
      await context.out.flush();
    }
  } finally {
    progress.stop();
  }
  for (const note of notes) context.note(`note: ${note}`);
  if (json) await context.out.line(jsonText({ machine: benchmarks.machine(), notes, sections, curves }));
}
