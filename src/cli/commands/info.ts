/** `x86-paging info`: what a dump is, what is in it, and what each fact rests on. */

import type { Command } from "commander";
import { kernelLayout } from "../../dump/node.js";
import { jsonText } from "../../json-text.js";
import { pagingModeOf } from "../../maps/mode.js";
import type { CliContext } from "../context.js";
import {
  addFileOptions,
  addRegisterOptions,
  FILE_HELP,
  type FileOptions,
  openDumpOf,
  type RegisterFlags,
} from "../dump-options.js";
import { describeDump, describeRanges, describeRegions, dumpJson } from "../dump-text.js";
import { knownRegisters } from "../found-spaces.js";

interface InfoOptions extends FileOptions, RegisterFlags {
  ranges?: boolean;
  json?: boolean;
}

export function registerInfo(program: Command, context: CliContext): void {
  const command = program
    .command("info")
    .description("show what a dump is: format, memory, what is left out, processors, registers, and what each rests on")
    .argument("<file>", FILE_HELP)
    .option("--ranges", "all ranges of memory, not only the first of each kind")
    .option("--json", "one JSON object, with all ranges");
  addRegisterOptions(addFileOptions(command))
    .addHelpText(
      "after",
      "\nWhere no note has CR3, memory is searched for VMCOREINFO, by which the kernel's tables are found.\n" +
        "\nExamples:\n  x86-paging info vm.elf\n  x86-paging info vmcore.1 --part vmcore.2\n  x86-paging info memory.lime --json",
    )
    .action((file: string, options: InfoOptions) => info(context, file, options));
}

async function info(context: CliContext, file: string, options: InfoOptions): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    const known = knownRegisters(context, dump, options);
    const { registers } = known;
    const regions = registers === undefined ? [] : kernelLayout(dump, registers, pagingModeOf(registers));
    if (options.json) {
      context.out.line(jsonText(dumpJson(dump, known, regions)));
      return;
    }
    describeDump(context, dump, known);
    describeRegions(context, regions);
    context.out.line("");
    context.out.line(context.style("bold", "Memory"));
    describeRanges(context, dump, options.ranges === true);
  } finally {
    dump.close();
  }
}
