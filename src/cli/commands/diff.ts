/** `x86-paging diff`: two recordings of one scenario, step by step; or the mappings of two dumps, or of two spaces. */

import { statSync } from "node:fs";
import type { Command } from "commander";
import { jsonText } from "../../json-text.js";
import {
  diffRecordings,
  findRecordings,
  isPackedFile,
  type LineDifference,
  type Recording,
  RecordingError,
  readRecording,
  type StepDiff,
} from "../../recording/index.js";
import type { CliContext } from "../context.js";
import { addDumpDifferenceOptions, type DumpDifferenceOptions, diffDumps } from "../dump-difference.js";
import { CliError, ExitCode } from "../errors.js";
import { parseInteger } from "../values.js";

interface DiffOptions extends DumpDifferenceOptions {
  probes?: boolean;
  show: number;
  json?: boolean;
}

const PARTS = ["answers", "events", "state"] as const;

export function registerDiff(program: Command, context: CliContext): void {
  const command = program
    .command("diff")
    .description(
      "compare two recordings of one scenario (folders, or packed), or the mappings of two dumps or spaces (files)",
    )
    .argument("<a>", "a recording (the folder with its scenario.json.gz, or a packed one), or a dump")
    .argument("<b>", "another one, or the same dump with --b-cr3, --b-cpu or --b-half")
    .option("--probes", "of recordings: compare probes on KVM's functions too, not only tracepoints")
    .option("--show <n>", "of recordings: lines printed of each part of a step", parseInteger(0, 10 ** 6), 12)
    .option("--json", "one JSON object a step or range that differs, then one with the totals");
  addDumpDifferenceOptions(command)
    .addHelpText(
      "after",
      "\nRecordings: a step's answers are what guest and VMM saw, its events what the kernel traced, its state the shadow pages, roots and" +
        "\nroles after it. Shadow pages go by (gfn, role) and results by name; where the host's pages lie is not compared." +
        "\nTo see which of the kernel's rules is behind a difference: x86-paging replay A --against KERNEL." +
        "\n\nDumps: mappings that were added (+), are gone (-), or changed in target, rights or page size (both), by virtual address." +
        "\nAccessed and dirty bits and the like are compared where --columns names them. Options hold for both; those with b for B." +
        "\n\nThe exit code is 1 where something differs." +
        "\n\nExamples:\n  x86-paging diff recordings/a1_lm4_wp1/npt0 recordings-6.12/a1_lm4_wp1/npt0" +
        "\n  x86-paging diff a1_lm4_wp1/npt1-tdp0 a1_lm4_wp1/npt1-tdp1 --show 3" +
        "\n  x86-paging diff before.elf after.elf --kernel" +
        "\n  x86-paging diff vm.elf vm.elf --cr3 0x18118000 --b-cr3 0x1811a000",
    )
    .action((a: string, b: string, options: DiffOptions) => {
      const dumps = [a, b].filter(isDump).length;
      if (dumps === 1) throw new CliError(`${isDump(a) ? b : a}: expected a dump, as the other one is`);
      return dumps === 2 ? diffDumps(context, a, b, options) : diff(context, a, b, options);
    });
}

/** Recordings are folders, or packed and known by how they begin. */
function isDump(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false && !isPackedFile(path);
}

async function diff(context: CliContext, a: string, b: string, options: DiffOptions): Promise<void> {
  const [left, right] = [open(a), open(b)];
  const { steps, differing } = diffRecordings(left, right, { probes: options.probes ?? false });
  const { out } = context;
  if (!options.json) {
    await out.line(`- ${titleOf(left)}`);
    await out.line(`+ ${titleOf(right)}`);
  }
  for (const step of differing) {
    if (options.json) await out.line(jsonText(step));
    else for (const line of stepLines(step, options.show)) await out.line(line);
  }
  const totals = Object.fromEntries(
    PARTS.map((part) => [part, differing.filter((step) => step[part].length > 0).length]),
  );
  const unmatched = differing.filter((step) => step.a === undefined || step.b === undefined).length;
  if (options.json) await out.line(jsonText({ steps, differing: differing.length, ...totals, unmatched }));
  else {
    const parts = PARTS.map((part) => `${totals[part]} in ${part}`).join(", ");
    const alone = unmatched === 0 ? "" : `; ${unmatched} ${unmatched === 1 ? "is" : "are"} in one only`;
    await out.line(`${differing.length - unmatched} of ${steps} steps differ (${parts})${alone}`);
  }
  if (differing.length > 0) context.exitCode = ExitCode.Negative;
}

/** Throws RecordingError where the folder has no recording, or several. */
function open(folder: string): Recording {
  const found = findRecordings(folder);
  if (found.length > 1) throw new RecordingError(folder, "", `expected one recording, found ${found.length} below it`);
  return readRecording(found[0]!);
}

function titleOf({ path, config }: Recording): string {
  const { kernel, scenario, cfg } = config;
  return `${path}: ${scenario}, ${cfg}, Linux ${kernel}`;
}

function* stepLines(step: StepDiff, show: number): IterableIterator<string> {
  const { a, b, op } = step;
  if (a === undefined || b === undefined) {
    yield `${a === undefined ? "+" : "-"} step ${a ?? b} (${op}) is in this one only`;
    return;
  }
  yield `step ${a}${a === b ? "" : `, ${b}`} (${op})`;
  for (const part of PARTS) {
    const lines: readonly LineDifference[] = step[part];
    if (lines.length === 0) continue;
    yield `  ${part}`;
    for (const { side, text } of lines.slice(0, show)) yield `    ${side === "a" ? "-" : "+"} ${text}`;
    if (lines.length > show) yield `    ... ${lines.length - show} more`;
  }
}
