/** `x86-paging shared`: physical pages that several processes map. */

import type { Command } from "commander";
import type { Leaf } from "../../api.js";
import { jsonText } from "../../json-text.js";
import { pageSizeName, rightsLetters } from "../../maps/leaves.js";
import { type Overlap, type Owned, overlaps } from "../../maps/overlaps.js";
import { spansOf } from "../../maps/spans.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  addStructureOptions,
  type DumpOptions,
  FILE_HELP,
  openDumpOf,
  type StructureCliOptions,
  sayWarnings,
} from "../dump-options.js";
import { type EachSpace, partsOfSpaces } from "../each-space.js";
import { CliError, ExitCode } from "../errors.js";
import { everySpace } from "../found-spaces.js";
import { addLeafFilters, type LeafFilterOptions, leafFilter } from "../leaf-filter.js";
import { hex, hex16, parseInteger, sizeText } from "../values.js";

/** Ranges of users' parts beyond this many are refused: all of them are compared. */
const MOST_RANGES = 2 ** 19;
/** Mappings of one range that are shown. */
const MOST_SHOWN = 64;

interface SharedOptions extends DumpOptions, StructureCliOptions, LeafFilterOptions {
  least: number;
  json?: boolean;
}

/** A range of physical memory that a user's part maps. */
type Mapping = Owned<Leaf>;

export function registerShared(program: Command, context: CliContext): void {
  const command = program
    .command("shared")
    .description("list the physical pages that the users' parts of several address spaces map")
    .argument("<file>", FILE_HELP)
    .option("--least <n>", "only what at least so many spaces map", parseInteger(2, 2 ** 32), 2)
    .option("--json", "one JSON object a range");
  addStructureOptions(addDumpOptions(addLeafFilters(command), true))
    .addHelpText(
      "after",
      "\nPrints ranges of physical memory, and below each where it is mapped: root, first virtual address, page size, rights. Filters choose among the mappings: --writable lists what several processes may write. Threads share one root and count once.\n" +
        "\nExamples:\n  x86-paging shared vm.elf\n  x86-paging shared memory.lime.gz --writable --json",
    )
    .action((file: string, options: SharedOptions) => shared(context, file, options));
}

async function shared(context: CliContext, file: string, options: SharedOptions): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const each = await everySpace(context, dump, options, "listing spaces");
    let mappings: Mapping[];
    try {
      mappings = mappingsOfUsers(each, leafFilter(options));
    } finally {
      each.stop();
    }
    let printed = 0;
    for (const overlap of overlaps(mappings, options.least, MOST_SHOWN)) {
      printed++;
      const lines = options.json ? [overlapJson(overlap, each)] : overlapLines(overlap, each);
      for (const line of lines) {
        const wait = context.out.line(line);
        if (wait !== undefined) await wait;
      }
    }
    if (printed > 0) return;
    context.note(`${dump.name}: no physical page is mapped by ${options.least} address spaces`);
    context.exitCode = ExitCode.Negative;
  } finally {
    dump.close();
  }
}

function mappingsOfUsers(each: EachSpace, wanted: (leaf: Leaf) => boolean): Mapping[] {
  const mappings: Mapping[] = [];
  const users = function* (leaves: Iterable<Leaf>) {
    for (const leaf of leaves) if (leaf.rights.user && wanted(leaf)) yield leaf;
  };
  for (const part of partsOfSpaces(each)) {
    if (part.isKernelPart) continue;
    const owner = each.spaces.indexOf(part.space);
    for (const { first, size } of spansOf(users(part.leaves))) {
      if (mappings.length === MOST_RANGES) {
        throw new CliError(
          `${each.dump.name}: expected at most ${MOST_RANGES} ranges of users, found more (filters and --range say which)`,
        );
      }
      mappings.push({ start: first.pa, end: first.pa + size, owner, value: first });
    }
  }
  return mappings;
}

function overlapLines({ start, end, owners, ranges, more }: Overlap<Leaf>, each: EachSpace): string[] {
  return [
    `${hex16(start)} ${hex16(end)} ${sizeText(end - start).padStart(10)} in ${owners} spaces`,
    ...ranges.map((range) => {
      const { size, rights } = range.value;
      const root = hex(rootOf(range, each)).padEnd(12);
      return `  ${root} ${hex16(addressOf(range, start))} ${pageSizeName(size).padStart(4)} ${rightsLetters(rights)}`;
    }),
    ...(more > 0 ? [`  ${more} more mappings of it (find --all shows all)`] : []),
  ];
}

function overlapJson({ start, end, owners, ranges, more }: Overlap<Leaf>, each: EachSpace): string {
  return jsonText({
    gpa: hex(start),
    size: Number(end - start),
    spaces: owners,
    mappings: ranges.map((range) => {
      const { size, rights } = range.value;
      return {
        root: hex(rootOf(range, each)),
        va: hex(addressOf(range, start)),
        pageSize: Number(size),
        user: rights.user,
        writable: rights.write,
        executable: rights.execute,
      };
    }),
    moreMappings: more,
  });
}

function rootOf({ owner }: Mapping, { spaces }: EachSpace): bigint {
  return spaces[owner]!.root;
}

/** The virtual address of a mapping that maps `gpa`. */
function addressOf({ start, value }: Mapping, gpa: bigint): bigint {
  return value.va + (gpa - start);
}
