/** `x86-paging maps`: lists what is mapped. */
import { type Command, Option } from "commander";
import type { Leaf } from "../../api.js";
import type { Dump, Presence } from "../../dump/node.js";
import { kernelLayout, kernelLayoutAt, regionNamer } from "../../dump/node.js";
import { LEAF_ATTRIBUTES, type LeafAttribute } from "../../maps/attributes.js";
import { INFO_TLB_PAGING_OFF, infoTlbLine } from "../../maps/info-tlb.js";
import type { NotPresentRange } from "../../maps/not-present-ranges.js";
import { type MapsRow, mapsCsvWriter, mapsJsonLine, type RowWriter } from "../../maps/rows.js";
import type { TableStructureSummary } from "../../maps/structure.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  addStructureOptions,
  type DumpOptions,
  FILE_HELP,
  inspect,
  openDumpOf,
  openSpace,
  type StructureCliOptions,
  sayWarnings,
} from "../dump-options.js";
import { CliError, ExitCode } from "../errors.js";
import { everySpaceRows } from "../every-space-rows.js";
import { everySpace } from "../found-spaces.js";
import { addLeafFilters, hasFilter, inRanges, type LeafFilterOptions, leafFilter } from "../leaf-filter.js";
import { leafRows, mergedRows, type RowSource, rangeRows } from "../maps-rows.js";
import { attributesOf, leafText, tableWriter } from "../maps-text.js";
import {
  addNotPresentOptions,
  type NotPresentCliOptions,
  notPresentLines,
  notPresentOptions,
} from "../not-present-listing.js";
import { startProgress } from "../progress.js";
import { addressRanges } from "../raw-options.js";
import { parseHex } from "../values.js";

type Format = "runs" | "info-tlb" | "leaves";

interface MapsOptions extends DumpOptions, StructureCliOptions, LeafFilterOptions, NotPresentCliOptions {
  format: Format;
  merge?: boolean;
  has?: bigint;
  columns?: LeafAttribute[];
  all?: boolean;
  csv?: boolean;
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
    .option("--merge", "ranges by virtual address and rights alone, wherever they lie (as QEMU's `info mem`)")
    .option("--has <gva>", "only the range or page that has this virtual address", parseHex)
    .option(
      "--columns <names>",
      `attributes of entries, by which ranges are parted too: ${LEAF_ATTRIBUTES.join(", ")}, with commas between them`,
      attributesOf,
    )
    .option("--all", "every address space of the dump: what several have in common once, with the spaces it is in")
    .option("--csv", "comma-separated values")
    .option("--json", "one JSON object a line");
  addNotPresentOptions(command, "instead of mappings, entries that are not present, as this system reads them");
  addStructureOptions(addDumpOptions(addLeafFilters(command), true))
    .addHelpText(
      "after",
      "\nRights are ANDed over all levels: u for user code, w for writing, x for executing. --format leaves prints `va pa size uwx [why]` with why the page is not in the dump: `absent` (it has nothing at that address; not said where the dump holds page tables only), `excluded` (its writer left the page out), `cut` (the file breaks off, or lacks a part). With --all users' parts are listed by the users' root of a process with page-table isolation, and the kernel's part once, as `kernel`.\n" +
        "\nExamples:\n  x86-paging maps vm.elf\n  x86-paging maps vm.elf.gz --wx\n  x86-paging maps vm.elf --all --wx\n  x86-paging maps vm.elf --merge --range ffff800000000000- --csv > kernel.csv\n  x86-paging maps vm.elf --has 7ffd1000 --columns a,d,pkey\n  x86-paging maps vm.elf --not-present linux --range 0-800000000000\n  x86-paging maps vm.elf --format info-tlb > tlb.txt\n  x86-paging maps vmcore.1 --part vmcore.2 --part vmcore.3\n  x86-paging maps memory.raw --raw --cr3 0x1ca5000 --user --json",
    )
    .action((file: string, options: MapsOptions) => {
      checkOptions(options);
      return options.all ? mapsOfAll(context, file, options) : maps(context, file, options);
    });
}

function checkOptions({ format, json, csv, merge, columns, all, ...others }: MapsOptions): void {
  if (others.notPresent !== undefined) {
    const { user, kernel, writable, executable, wx } = others;
    const odd = { "--format": format !== "runs", "--merge": merge, "--columns": columns, "--all": all, "--csv": csv };
    const rights = {
      "--user": user,
      "--kernel": kernel,
      "--writable": writable,
      "--executable": executable,
      "--wx": wx,
    };
    const found = Object.entries({ ...odd, ...rights }).find(([, given]) => given);
    if (found !== undefined) throw new CliError(`--not-present: expected no ${found[0]} with it`);
  }
  if (json && csv) throw new CliError("--json and --csv: expected one of them");
  if (merge && format !== "runs") throw new CliError(`--merge: expected --format runs, found ${format}`);
  if (all && format !== "runs") throw new CliError(`--all: expected --format runs, found ${format}`);
  if (format !== "info-tlb") return;
  const option = json ? "--json" : csv ? "--csv" : columns ? "--columns" : undefined;
  if (option !== undefined) throw new CliError(`${option}: expected --format runs or leaves, found info-tlb`);
}

async function maps(context: CliContext, file: string, options: MapsOptions): Promise<void> {
  const open = await openSpace(context, file, options, true);
  const { dump, mode, registers, space } = open;
  try {
    if (mode === "none") {
      sayWarnings(context, dump);
      if (options.format === "info-tlb") context.out.line(INFO_TLB_PAGING_OFF);
      else context.note(`${dump.name}: paging is off, nothing is mapped`);
      context.exitCode = ExitCode.Negative;
      return;
    }
    const unmapped = notPresentOptions(dump, mode, options);
    const structure = inspect(context, open, options);
    if (unmapped !== undefined) {
      const wanted = inRanges(addressRanges(options));
      const chosen = ({ va, size }: NotPresentRange) => wanted(va, size) && contains({ va, size }, options.has);
      const printed = await print(context, notPresentLines(open, unmapped, options.json === true, chosen));
      if (printed === 0) sayNothing(context, dump, options);
      return;
    }
    const progress = startProgress(context.io, "listing", structure.leaves);
    const leaves = counted(space.leaves(), leafFilter(options), progress.update);
    try {
      const presence = presenceIn(dump, options, structure);
      const region = regionNamer(kernelLayout(dump, registers, mode));
      const source = { mode, attributes: options.columns ?? [], presence, region };
      const lines =
        options.format === "info-tlb"
          ? infoTlbLines(leaves, mode, options)
          : rowLines(context, leaves, source, options);
      const printed = await print(context, lines);
      if (printed === 0) sayNothing(context, dump, options);
    } finally {
      progress.stop();
    }
  } finally {
    dump.close();
  }
}

async function mapsOfAll(context: CliContext, file: string, options: MapsOptions): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const each = await everySpace(context, dump, options, "listing spaces");
    try {
      const attributes = options.columns ?? [];
      const presence = presenceIn(dump, options);
      const rows = everySpaceRows({
        each,
        source: { attributes, presence },
        regions: ({ root, mode }) => regionNamer(kernelLayoutAt(dump, root, mode, each.encryptionMask)),
        wanted: leafFilter(options),
        merge: options.merge === true,
      });
      const printed = await print(context, written(context, rows, attributes, options));
      if (printed === 0) sayNothing(context, dump, options);
    } finally {
      each.stop();
    }
  } finally {
    dump.close();
  }
}

function sayNothing(context: CliContext, dump: Dump, options: MapsOptions): void {
  const filters = hasFilter(options) || options.has !== undefined;
  const what = options.notPresent === undefined ? "nothing is mapped" : "no entry that is not present says anything";
  context.note(`${dump.name}: ${what}${filters ? " that the filters let through" : ""}`);
  context.exitCode = ExitCode.Negative;
}

/** Of a dump that has nothing but page tables it is not said in each line for people that a page is absent. */
function presenceIn(dump: Dump, { json, csv }: MapsOptions, structure?: TableStructureSummary): RowSource["presence"] {
  const hasTablesOnly = dump.tablesOnly || (structure !== undefined && seemsTablesOnly(dump, structure));
  const isSilent = hasTablesOnly && !json && !csv;
  return isSilent ? (): Presence => "held" : (gpa, size) => dump.presence(gpa, size);
}

function seemsTablesOnly({ memory: { held, lacking } }: Dump, structure: TableStructureSummary): boolean {
  const tables = [...structure.tablesByLevel.values()].reduce((sum, count) => sum + count, 0);
  return held.bytes <= tables * 4096 && lacking.excluded.bytes + lacking.cut.bytes === 0;
}

async function print(context: CliContext, lines: Iterable<string>): Promise<number> {
  let printed = 0;
  for (const line of lines) {
    printed++;
    const wait = context.out.line(line);
    if (wait !== undefined) await wait;
  }
  return printed;
}

function* infoTlbLines(leaves: Iterable<Leaf>, mode: RowSource["mode"], { has }: MapsOptions): Iterable<string> {
  for (const leaf of leaves) if (contains(leaf, has)) yield infoTlbLine(leaf, mode);
}

function rowLines(
  context: CliContext,
  leaves: Iterable<Leaf>,
  source: RowSource,
  options: MapsOptions,
): Iterable<string> {
  const rows = options.format === "leaves" ? leafRows(leaves, source) : rangeRows(leaves, source);
  return written(context, options.merge ? mergedRows(rows) : rows, source.attributes, options);
}

/** The rows that have the address which is asked for, as lines; a header comes before the first. */
function* written(
  context: CliContext,
  rows: Iterable<MapsRow>,
  attributes: readonly LeafAttribute[],
  options: MapsOptions,
): Iterable<string> {
  const writer = writerOf(context, attributes, options);
  let header = writer.header;
  for (const row of rows) {
    if (!contains(row, options.has)) continue;
    if (header !== undefined) yield header;
    header = undefined;
    yield writer.line(row);
  }
}

function writerOf(context: CliContext, attributes: readonly LeafAttribute[], options: MapsOptions): RowWriter {
  const physical = options.merge !== true;
  if (options.json) return { header: undefined, line: (row) => mapsJsonLine(row, attributes) };
  if (options.csv) return mapsCsvWriter({ attributes, physical, places: options.all === true });
  if (options.format === "leaves") return { header: undefined, line: (row) => leafText(row, attributes) };
  return tableWriter({ style: context.style, attributes, physical });
}

function contains({ va, size }: { readonly va: bigint; readonly size: bigint }, address: bigint | undefined): boolean {
  return address === undefined || (va <= address && address < va + size);
}

/** The leaves that the filters let through; all of them are counted. */
function* counted(
  leaves: Iterable<Leaf>,
  wanted: (leaf: Leaf) => boolean,
  update: (done: number) => void,
): Iterable<Leaf> {
  let done = 0;
  for (const leaf of leaves) {
    done++;
    if (done % 4096 === 0) update(done);
    if (wanted(leaf)) yield leaf;
  }
}
