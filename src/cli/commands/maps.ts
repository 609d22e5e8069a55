/** `x86-paging maps`: lists what is mapped. */
import { type Command, Option } from "commander";
import type { Leaf } from "../../api.js";
import type { Dump, Presence } from "../../dump/node.js";
import { INFO_TLB_PAGING_OFF, infoTlbLine } from "../../maps/info-tlb.js";
import { leafLine, pageSizeName } from "../../maps/leaves.js";
import type { TableStructureSummary } from "../../maps/structure.js";
import { mergeRuns, type Run } from "../../runs.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  addStructureOptions,
  type DumpOptions,
  FILE_HELP,
  inspect,
  openSpace,
  type StructureCliOptions,
  sayWarnings,
} from "../dump-options.js";
import { CliError, ExitCode } from "../errors.js";
import { startProgress } from "../progress.js";
import type { Styler } from "../style.js";
import { hex, hex16, sizeText } from "../values.js";

type Format = "runs" | "info-tlb" | "leaves";

interface MapsOptions extends DumpOptions, StructureCliOptions {
  format: Format;
  user?: boolean;
  writable?: boolean;
  executable?: boolean;
  wx?: boolean;
  json?: boolean;
}

export function registerMaps(program: Command, context: CliContext): void {
  const command = program
    .command("maps")
    .description("list the mappings of a dump as ranges with effective rights, sizes and targets")
    .argument("<file>", FILE_HELP)
    .addOption(
      new Option("--format <format>", "ranges, QEMU's `info tlb`, or one line a page")
        .choices(["runs", "info-tlb", "leaves"])
        .default("runs"),
    )
    .option("--user", "only what user mode may access")
    .option("--writable", "only what may be written")
    .option("--executable", "only what may be executed")
    .option("--wx", "only what may be written and executed")
    .option("--json", "one JSON object a line");
  addStructureOptions(addDumpOptions(command))
    .addHelpText(
      "after",
      "\nRights are ANDed over all levels. --format leaves prints `va pa size uwx [why]` with why the page is not in the dump: `absent` (it has nothing at that address; not said where the dump holds page tables only), `excluded` (its writer left the page out), `cut` (the file breaks off, or lacks a part).\n" +
        "\nExamples:\n  x86-paging maps vm.elf\n  x86-paging maps vm.elf.gz --wx\n  x86-paging maps vm.elf --format info-tlb > tlb.txt\n  x86-paging maps vmcore.1 --part vmcore.2 --part vmcore.3\n  x86-paging maps memory.raw --raw --cr3 0x1ca5000 --user --json",
    )
    .action((file: string, options: MapsOptions) => maps(context, file, options));
}

async function maps(context: CliContext, file: string, options: MapsOptions): Promise<void> {
  if (options.json && options.format === "info-tlb") {
    throw new CliError("--json: expected --format runs or leaves, found info-tlb");
  }
  const open = await openSpace(context, file, options, true);
  const { dump, mode, space } = open;
  try {
    if (mode === "none") {
      sayWarnings(context, dump);
      if (options.format === "info-tlb") context.out.line(INFO_TLB_PAGING_OFF);
      else context.note(`${dump.name}: paging is off, nothing is mapped`);
      context.exitCode = ExitCode.Negative;
      return;
    }
    const structure = inspect(context, open, options);
    const progress = startProgress(context.io, "listing", structure.leaves);
    const leaves = counted(selected(space.leaves(), options), progress.update);
    try {
      const targets = holdsOnlyTables(dump, structure) ? { presence: () => HELD } : dump;
      const lines = formatted(context, targets, leaves, open.mode, options);
      const printed = await print(context, lines);
      if (printed === 0) {
        context.note(`${dump.name}: nothing is mapped${hasFilter(options) ? " that the filters let through" : ""}`);
        context.exitCode = ExitCode.Negative;
      }
    } finally {
      progress.stop();
    }
  } finally {
    dump.close();
  }
}

/** A dump cut down to its page tables: that a mapped page is absent says nothing there, so it is not said. */
function holdsOnlyTables(dump: Dump, structure: TableStructureSummary): boolean {
  const { held, lacking } = dump.memory;
  const tables = [...structure.tablesByLevel.values()].reduce((sum, count) => sum + count, 0);
  return held.bytes <= tables * 4096 && lacking.excluded.bytes + lacking.cut.bytes === 0;
}

const HELD: Presence = "held";

async function print(context: CliContext, lines: Iterable<string>): Promise<number> {
  let printed = 0;
  for (const line of lines) {
    printed++;
    const wait = context.out.line(line);
    if (wait !== undefined) await wait;
  }
  return printed;
}

function* formatted(
  context: CliContext,
  dump: { presence(gpa: bigint, size: bigint): Presence },
  leaves: Iterable<Leaf>,
  mode: Parameters<typeof infoTlbLine>[1],
  options: MapsOptions,
): Iterable<string> {
  switch (options.format) {
    case "info-tlb":
      for (const leaf of leaves) yield infoTlbLine(leaf, mode);
      return;
    case "leaves":
      for (const leaf of leaves) {
        const presence = dump.presence(leaf.pa, leaf.size);
        yield options.json ? leafJson(leaf, presence) : leafLine(leaf, presence);
      }
      return;
    case "runs": {
      let first = true;
      for (const run of mergeRuns(leaves)) {
        const presence = dump.presence(run.pa, run.size);
        if (first && !options.json) yield context.style("dim", RUN_HEADER);
        first = false;
        yield options.json ? runJson(run, presence) : runLine(run, presence, context.style);
      }
    }
  }
}

const RUN_HEADER = `${"start".padEnd(16)} ${"end".padEnd(16)} ${"size".padStart(10)} page rights ${"physical".padEnd(16)}`;

function runLine(run: Run, presence: Presence, style: Styler): string {
  const end = BigInt.asUintN(64, run.va + run.size);
  const { user, write, execute, read } = run.rights;
  const rights = `${user ? "u" : "-"}${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}`;
  const text = write && execute ? style("red", rights) : user ? style("green", rights) : rights;
  const size = sizeText(run.size).padStart(10);
  const line = `${hex16(run.va)} ${hex16(end)} ${size} ${pageSizeName(run.pageSize).padStart(4)} ${text}   ${hex16(run.pa)}`;
  return presence === "held" ? line : `${line} ${style("dim", presence)}`;
}

function runJson(run: Run, presence: Presence): string {
  return JSON.stringify({
    va: hex(run.va),
    size: Number(run.size),
    pageSize: Number(run.pageSize),
    pa: hex(run.pa),
    user: run.rights.user,
    writable: run.rights.write,
    executable: run.rights.execute,
    absent: presence !== "held",
    presence,
  });
}

function leafJson(leaf: Leaf, presence: Presence): string {
  return JSON.stringify({
    va: hex(leaf.va),
    size: Number(leaf.size),
    pa: hex(leaf.pa),
    entry: hex(leaf.entry),
    user: leaf.rights.user,
    writable: leaf.rights.write,
    executable: leaf.rights.execute,
    absent: presence !== "held",
    presence,
  });
}

function hasFilter(options: MapsOptions): boolean {
  return Boolean(options.user || options.writable || options.executable || options.wx);
}

function* counted(leaves: Iterable<Leaf | undefined>, update: (done: number) => void): Iterable<Leaf> {
  let done = 0;
  for (const leaf of leaves) {
    done++;
    if (done % 4096 === 0) update(done);
    if (leaf !== undefined) yield leaf;
  }
}

/** Each leaf that the filters let through, and undefined for each that they do not. */
function* selected(leaves: Iterable<Leaf>, options: MapsOptions): Iterable<Leaf | undefined> {
  for (const leaf of leaves) {
    const { user, write, execute } = leaf.rights;
    const passes =
      (!options.user || user) &&
      (!(options.writable || options.wx) || write) &&
      (!(options.executable || options.wx) || execute);
    yield passes ? leaf : undefined;
  }
}
