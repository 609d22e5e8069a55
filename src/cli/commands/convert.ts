/** `x86-paging convert` and `x86-paging reduce`: a dump as another file. */
import { existsSync, realpathSync } from "node:fs";
import { type Command, Option } from "commander";
import {
  convertDump,
  type Dump,
  type DumpRegisters,
  type InspectedMode,
  type KeptRoot,
  reduceDump,
  type WrittenDump,
  type WrittenFormat,
  writeDumpFile,
} from "../../dump/node.js";
import { pagingModeOf } from "../../maps/mode.js";
import type { CliContext } from "../context.js";
import {
  addFileOptions,
  addRegisterOptions,
  FILE_HELP,
  type FileOptions,
  findVmcoreinfo,
  openDumpOf,
  type RegisterFlags,
  sayWarnings,
} from "../dump-options.js";
import { CliError } from "../errors.js";
import { knownRegisters, scan } from "../found-spaces.js";
import { startProgress } from "../progress.js";
import { sizeText } from "../values.js";

interface OutputOptions extends FileOptions {
  output: string;
  force?: boolean;
}

interface ConvertOptions extends OutputOptions {
  to: WrittenFormat;
}

interface ReduceOptions extends OutputOptions, RegisterFlags {
  only?: boolean;
}

function addOutputOptions(command: Command): Command {
  return command
    .requiredOption("-o, --output <file>", "the file to write")
    .option("--force", "replace a file of that name");
}

export function registerConvert(program: Command, context: CliContext): void {
  const command = addOutputOptions(
    program
      .command("convert")
      .description("write a dump of any format as an ELF core or a LiME dump")
      .argument("<file>", FILE_HELP)
      .addOption(new Option("--to <format>", "what to write").choices(["elf", "lime"]).default("elf")),
  );
  addFileOptions(command)
    .addHelpText(
      "after",
      "\nAn ELF core keeps notes, registers and which pages were left out; LiME has memory alone. Pages that are all zero are holes in the file.\n" +
        "\nExamples:\n  x86-paging convert vmcore.kdump -o vmcore.elf\n  x86-paging convert vm.vmem -o vm.elf\n  x86-paging convert memory.avml --to lime -o memory.lime",
    )
    .action((file: string, options: ConvertOptions) => convert(context, file, options));
}

export function registerReduce(program: Command, context: CliContext): void {
  const command = addOutputOptions(
    program
      .command("reduce")
      .description("write the page tables and notes of a dump, without any data, as an ELF core: for bug reports")
      .argument("<file>", FILE_HELP)
      .option("--only", "the tables of the registers' root alone, without a search for other address spaces"),
  );
  addRegisterOptions(addFileOptions(command))
    .addHelpText(
      "after",
      "\nThe file has the tables of every address space that is found and of each processor's root, the notes as they are, with general registers where they have them, and VMCOREINFO. What the tables map is not in it. Listings of it are those of the dump.\n" +
        "\nExamples:\n  x86-paging reduce vm.elf -o tables.elf\n  x86-paging reduce memory.raw --raw --cr3 0x1ca5000 --only -o tables.elf",
    )
    .action((file: string, options: ReduceOptions) => reduce(context, file, options));
}

async function convert(context: CliContext, file: string, options: ConvertOptions): Promise<void> {
  checkOutput(file, options);
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    write(context, options, convertDump(dump, options.to));
  } finally {
    dump.close();
  }
}

async function reduce(context: CliContext, file: string, options: ReduceOptions): Promise<void> {
  checkOutput(file, options);
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const known = knownRegisters(context, dump, options);
    const { registers } = known;
    if (registers === undefined && options.only) throw new CliError(`${dump.name}: ${known.problem}`);
    const roots = registers === undefined ? [] : rootsOf(dump, registers);
    const found = options.only ? [] : scan(context, dump, options).spaces;
    for (const { root, userRoot, mode } of found) {
      roots.push({ root, mode }, ...(userRoot === undefined ? [] : [{ root: userRoot, mode }]));
    }
    if (roots.length === 0) throw new CliError(`${dump.name}: no page tables were found, and none are given (--cr3)`);
    const inRam = registers?.origin.cr3.includes("VMCOREINFO in RAM") && dump.vmcoreinfo === undefined;
    const vmcoreinfo = inRam ? findVmcoreinfo(context, dump)?.text : undefined;
    const encryptionMask = registers?.encryptionMask ?? options.encryptionMask ?? 0n;
    write(context, options, reduceDump(dump, roots, { encryptionMask, vmcoreinfo }));
  } finally {
    dump.close();
  }
}

/** Of the registers, and of each processor; all are of one mode. */
function rootsOf(dump: Dump, registers: DumpRegisters): KeptRoot[] {
  const mode = pagingModeOf(registers);
  if (mode === "none") return [];
  const { cr3: chosen, encryptionMask } = registers;
  return [chosen, ...dump.cpus.map(({ cr3 }) => cr3)].map((cr3) => ({
    root: rootOf(cr3 & ~encryptionMask, mode),
    mode,
  }));
}

/** CR3 without flags, PCID and bits beyond its address: a PAE root is 32 bytes of its page. */
function rootOf(cr3: bigint, mode: InspectedMode): bigint {
  const size = mode === "pae" ? 32n : 4096n;
  const address = mode === "pae" || mode === "32bit" ? BigInt.asUintN(32, cr3) : BigInt.asUintN(52, cr3);
  return address - (address % size);
}

function write(context: CliContext, { output, force }: OutputOptions, written: WrittenDump): void {
  const progress = startProgress(context.io, "writing", written.size, true);
  try {
    writeDumpFile(output, written, { overwrite: force ?? false, onProgress: progress.update });
  } finally {
    progress.stop();
  }
  for (const loss of written.losses) context.note(`${output}: ${loss}`);
  context.out.line(`${output}: ${sizeText(BigInt(written.size))}, ${written.pages} pages of memory`);
}

/** Throws a CliError where the file is there and may not be replaced, and where it is the dump itself. */
function checkOutput(file: string, { output, force }: OutputOptions): void {
  if (!existsSync(output)) return;
  if (!force) throw new CliError(`${output}: expected no file of that name, found one (--force replaces it)`);
  if (existsSync(file) && realpathSync(file) === realpathSync(output)) {
    throw new CliError(`${output}: expected another file than the dump`);
  }
}
