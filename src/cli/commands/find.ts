/** `x86-paging find`: who maps a physical page. */

import type { Command } from "commander";
import type { Leaf } from "../../api.js";
import { jsonText } from "../../json-text.js";
import { pageSizeName, rightsLetters } from "../../maps/leaves.js";
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
import { leavesOfSpaces, placeJson, placeOf } from "../each-space.js";
import { ExitCode } from "../errors.js";
import { everySpace } from "../found-spaces.js";
import { startProgress } from "../progress.js";
import { hex, hex16, parseHexList } from "../values.js";
import { ascending, hits } from "../wanted-addresses.js";

interface FindOptions extends DumpOptions, StructureCliOptions {
  json?: boolean;
  all?: boolean;
}

export function registerFind(program: Command, context: CliContext): void {
  const command = program
    .command("find")
    .description("find all virtual addresses that map guest-physical addresses")
    .argument("<file>", FILE_HELP)
    .argument("<gpa...>", "guest-physical addresses in hexadecimal", parseHexList)
    .option("--all", "in every address space of the dump, not only the one that CR3 names")
    .option("--json", "one JSON object a line");
  addStructureOptions(addDumpOptions(command))
    .addHelpText(
      "after",
      "\nPrints `gpa va size uwx` for each mapping: the address asked for, the virtual address that translates to it, the page size and the effective rights; with --all the root of the space in front of it, and `kernel` for what spaces have in common.\n" +
        "\nExamples:\n  x86-paging find vm.elf 0x1f974000\n  x86-paging find vm.elf.gz 1f974000 fee00000 --json\n  x86-paging find vmcore.1 1f974000 --part vmcore.2\n  x86-paging find memory.lime 1f08a000 --all",
    )
    .action((file: string, gpas: bigint[], options: FindOptions) =>
      options.all ? findInAll(context, file, gpas, options) : find(context, file, gpas, options),
    );
}

async function find(context: CliContext, file: string, gpas: bigint[], options: FindOptions): Promise<void> {
  const open = await openSpace(context, file, options, true);
  const { dump, mode, space } = open;
  try {
    if (mode === "none") {
      sayWarnings(context, dump);
      context.note(`${dump.name}: paging is off, nothing is mapped`);
      context.exitCode = ExitCode.Negative;
      return;
    }
    const structure = inspect(context, open, options);
    const progress = startProgress(context.io, "searching", structure.leaves);
    const wanted = ascending(gpas);
    const found = new Set<bigint>();
    let done = 0;
    try {
      for (const leaf of space.leaves()) {
        if (++done % 4096 === 0) progress.update(done);
        for (const { gpa, va } of hits(leaf, wanted)) {
          found.add(gpa);
          const wait = context.out.line(
            options.json
              ? jsonText(mappingJson(gpa, va, leaf))
              : `${hex(gpa)} ${hex16(va)} ${pageSizeName(leaf.size)} ${rightsLetters(leaf.rights)}`,
          );
          if (wait !== undefined) await wait;
        }
      }
    } finally {
      progress.stop();
    }
    for (const gpa of wanted) if (!found.has(gpa)) context.note(`${dump.name}: nothing maps ${hex(gpa)}`);
    if (found.size === 0) context.exitCode = ExitCode.Negative;
  } finally {
    dump.close();
  }
}

function mappingJson(gpa: bigint, va: bigint, { size, rights }: Leaf): object {
  const { user, write, execute } = rights;
  return { gpa: hex(gpa), va: hex(va), pageSize: Number(size), user, writable: write, executable: execute };
}

async function findInAll(context: CliContext, file: string, gpas: bigint[], options: FindOptions): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const wanted = ascending(gpas);
    const found = new Set<bigint>();
    const each = await everySpace(context, dump, options, "searching spaces");
    try {
      for (const { leaf, ...part } of leavesOfSpaces(each)) {
        for (const { gpa, va } of hits(leaf, wanted)) {
          found.add(gpa);
          const wait = context.out.line(
            options.json
              ? jsonText({ ...placeJson(part), ...mappingJson(gpa, va, leaf) })
              : `${hex(gpa)} ${placeOf(part).padEnd(12)} ${hex16(va)} ${pageSizeName(leaf.size)} ${rightsLetters(leaf.rights)}`,
          );
          if (wait !== undefined) await wait;
        }
      }
    } finally {
      each.stop();
    }
    for (const gpa of wanted) if (!found.has(gpa)) context.note(`${dump.name}: no address space maps ${hex(gpa)}`);
    if (found.size === 0) context.exitCode = ExitCode.Negative;
  } finally {
    dump.close();
  }
}
