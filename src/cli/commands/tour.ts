/** `x86-paging tour`: what a dump is, a few walks, and a summary of its mappings. */
import { existsSync } from "node:fs";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { Access } from "../../abi/access.js";
import { bitOf } from "../../abi/bits.js";
import { CR4 } from "../../abi/registers.js";
import type { Leaf } from "../../api.js";
import { kernelLayout } from "../../dump/node.js";
import { pageSizeName, rightsLetters } from "../../maps/leaves.js";
import type { TableStructureSummary } from "../../maps/structure.js";
import { mergeRuns, type Run } from "../../runs.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  addStructureOptions,
  type DumpOptions,
  FILE_HELP,
  inspect,
  type OpenSpace,
  openDumpOf,
  type StructureCliOptions,
  spaceOver,
} from "../dump-options.js";
import { describeDump, describeRegions } from "../dump-text.js";
import { CliError, ExitCode } from "../errors.js";
import { knownRegisters } from "../found-spaces.js";
import { hex, hex16, sizeText } from "../values.js";
import { walkLines } from "../walk-text.js";

/** The dump that comes with the package, as seen from src/cli/commands and dist/cli/commands. */
const EXAMPLE = fileURLToPath(new URL("../../../examples/debian-amd64-la57.elf.gz", import.meta.url));

const TOP_RUNS = 5;

export function registerTour(program: Command, context: CliContext): void {
  const command = program
    .command("tour")
    .description("show what a dump is, a few decoded walks, and a summary of its mappings")
    .argument("[file]", `${FILE_HELP}; without it, the page tables of a Debian guest that come with this package`);
  addStructureOptions(addDumpOptions(command))
    .addHelpText("after", "\nExamples:\n  x86-paging tour\n  x86-paging tour vm.elf.gz")
    .action((file: string | undefined, options: DumpOptions & StructureCliOptions) => tour(context, file, options));
}

async function tour(
  context: CliContext,
  file: string | undefined,
  options: DumpOptions & StructureCliOptions,
): Promise<void> {
  if (file === undefined && !existsSync(EXAMPLE)) throw new CliError(`${EXAMPLE}: the example is missing; name a FILE`);
  const dump = await openDumpOf(context, file ?? relative(process.cwd(), EXAMPLE), options);
  try {
    const known = knownRegisters(context, dump, options);
    describeDump(context, dump, known);
    if (known.registers === undefined) {
      context.exitCode = ExitCode.Negative;
      return;
    }
    const open = await spaceOver(
      context,
      dump,
      { ...options, ...known.registers, maxphyaddr: known.registers.maxPhysAddr, quiet: true },
      true,
    );
    if (open.mode === "none") return;
    const structure = inspect(context, open, { ...options, quiet: true });
    if (open.mode !== "32bit") {
      const text = structure.executeDisableSeen ? "bit 63 is in use, so EFER.NXE is set" : "bit 63 is set in no entry";
      context.out.line(`  ${"XD".padEnd(11)} ${text}`);
    }
    describeRegions(context, kernelLayout(dump, known.registers, open.mode));
    const survey = surveyOf(open.space.leaves());
    showWalks(context, open, survey);
    showSummary(context, structure, survey);
  } finally {
    dump.close();
  }
}

function heading(context: CliContext, text: string): void {
  context.out.line("");
  context.out.line(context.style("bold", text));
}

/** What one pass over all leaves finds. */
interface Survey {
  /** Leaves and bytes by rights, e.g. "uw-". */
  readonly groups: Map<string, { pages: Map<number, number>; bytes: bigint }>;
  readonly largest: Run[];
  readonly examples: bigint[];
}

function surveyOf(leaves: Iterable<Leaf>): Survey {
  const groups: Survey["groups"] = new Map();
  const examples = new Map<string, bigint>();
  const count = function* (): Iterable<Leaf> {
    for (const leaf of leaves) {
      const { user } = leaf.rights;
      const key = rightsLetters(leaf.rights);
      let group = groups.get(key);
      if (group === undefined) {
        group = { pages: new Map(), bytes: 0n };
        groups.set(key, group);
      }
      const size = Number(leaf.size);
      group.pages.set(size, (group.pages.get(size) ?? 0) + 1);
      group.bytes += leaf.size;
      const kind = `${user} ${size}`;
      if (!examples.has(kind)) examples.set(kind, leaf.va);
      yield leaf;
    }
  };
  let largest: Run[] = [];
  for (const run of mergeRuns(count())) {
    if (largest.length < TOP_RUNS || run.size > largest[largest.length - 1]!.size) {
      largest = [...largest, run].sort((a, b) => (a.size === b.size ? 0 : a.size > b.size ? -1 : 1)).slice(0, TOP_RUNS);
    }
  }
  return { groups, largest, examples: [...examples.values()] };
}

function showWalks(context: CliContext, open: OpenSpace, survey: Survey): void {
  heading(context, "Walks");
  const { dump, mode, registers, space } = open;
  const how = { mode, pse: (registers.cr4 & bitOf(CR4, "PSE")) !== 0n };
  const rip = dump.cpus[0]?.rip;
  const addresses = [...(rip === undefined ? [] : [rip]), ...survey.examples, 0n];
  for (const address of [...new Set(addresses)]) {
    for (const line of walkLines(space.walk(address, Access.Probe | Access.Ac), how, context.style)) {
      context.out.line(`  ${line}`);
    }
  }
}

function showSummary(context: CliContext, structure: TableStructureSummary, survey: Survey): void {
  heading(context, "Mappings");
  const sizes = [...structure.leavesBySize].map(([size, count]) => `${count} of ${pageSizeName(size)}`);
  context.out.line(`  ${structure.leaves} pages: ${sizes.join(", ") || "none"}`);
  const tables = [...structure.tablesByLevel].map(([level, count]) => `${count} of level ${level}`);
  context.out.line(`  in tables: ${tables.join(", ")}`);
  for (const [key, group] of [...survey.groups].sort(([a], [b]) => (a < b ? 1 : -1))) {
    const pages = [...group.pages].map(([size, count]) => `${count} x ${pageSizeName(size)}`).join(", ");
    context.out.line(`  ${key}  ${sizeText(group.bytes).padStart(10)}  ${pages}`);
  }
  heading(context, "Largest ranges");
  for (const run of survey.largest) {
    const end = BigInt.asUintN(64, run.va + run.size);
    context.out.line(
      `  ${hex16(run.va)}-${hex16(end)} ${sizeText(run.size).padStart(10)} of ${pageSizeName(run.pageSize)} pages -> ${hex(run.pa)}`,
    );
  }
}
