/** `x86-paging spaces`: the address spaces in a dump, found without symbols. */

import { type Command, Option } from "commander";
import type { FoundSpace, InspectedMode } from "../../dump/node.js";
import { jsonText } from "../../json-text.js";
import { modeTitle } from "../../maps/mode.js";
import type { CliContext } from "../context.js";
import {
  addFileOptions,
  addRegisterOptions,
  FILE_HELP,
  type FileOptions,
  openDumpOf,
  type RegisterFlags,
} from "../dump-options.js";
import { ExitCode } from "../errors.js";
import { scan } from "../found-spaces.js";
import { hex, sizeText } from "../values.js";

const MODES: readonly InspectedMode[] = ["32bit", "pae", "4level", "5level"];
const KINDS: Readonly<Record<FoundSpace["kind"], string>> = {
  process: "process",
  kernel: "the kernel's part alone",
  other: "nothing of users: firmware, a trampoline",
};

interface SpacesOptions extends FileOptions, RegisterFlags {
  mode?: InspectedMode;
  json?: boolean;
}

export function registerSpaces(program: Command, context: CliContext): void {
  const command = program
    .command("spaces")
    .description("find every address space in a dump, without symbols: the roots of page tables")
    .argument("<file>", FILE_HELP)
    .addOption(new Option("--mode <mode>", "look for tables of this mode alone").choices(MODES))
    .option("--json", "one JSON object a line");
  addRegisterOptions(addFileOptions(command))
    .addHelpText(
      "after",
      "\nA page is taken for a root where all that is below it can be page tables and where it maps itself, as it does in systems that map all of\nmemory. Sizes are those of what user code and the kernel alone can reach; W+X counts pages that can be both written and executed.\nWith kernel page-table isolation a process has two roots: the user's lacks the kernel, and in the kernel's its pages are not executable.\nWhat has the kernel's part alone may be a kernel thread's, or the root of a process that has ended.\n" +
        "\nExamples:\n  x86-paging spaces vm.elf\n  x86-paging spaces memory.lime.gz --json\n  x86-paging maps vm.elf --cr3 0x18118000",
    )
    .action((file: string, options: SpacesOptions) => spaces(context, file, options));
}

async function spaces(context: CliContext, file: string, options: SpacesOptions): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    const { spaces: found } = scan(context, dump, options);
    if (found.length === 0) {
      context.note(`${dump.name}: no page tables were found`);
      context.exitCode = ExitCode.Negative;
      return;
    }
    if (options.json) {
      for (const one of found) {
        const wait = context.out.line(jsonText(spaceJson(one)));
        if (wait !== undefined) await wait;
      }
      return;
    }
    const head = `${"root".padEnd(14)}${"mode".padEnd(16)}${"users".padStart(10)}${"kernel".padStart(12)}${"W+X".padStart(7)}  `;
    context.out.line(context.style("bold", `${head}what`));
    const sharing = found.some(({ shared }) => shared > 1);
    for (const one of found) {
      const wait = context.out.line(spaceLine(one, sharing));
      if (wait !== undefined) await wait;
    }
  } finally {
    dump.close();
  }
}

/** `sharing`: some spaces have the same kernel part, as those of one system do. */
function spaceLine(space: FoundSpace, sharing: boolean): string {
  const { root, mode, kind, userRoot, mapped, cpus, isKernels, shared } = space;
  const what = [isKernels ? "the kernel's own" : KINDS[kind]];
  if (cpus.length > 0) what.push(`cpu ${cpus.join(", ")}`);
  if (userRoot !== undefined) what.push(`users' root ${hex(userRoot)}`);
  if (kind === "kernel" && !isKernels && cpus.length === 0) what.push("perhaps no longer in use");
  if (sharing && shared === 1) what.push("shares no kernel");
  const sizes = [mapped.user, mapped.kernel].map((bytes) => sizeText(BigInt(bytes)));
  return [
    hex(root).padEnd(14),
    modeTitle(mode).padEnd(16),
    sizes[0]!.padStart(10),
    sizes[1]!.padStart(12),
    `${mapped.writableExecutable}`.padStart(7),
    `  ${what.join(", ")}`,
  ].join("");
}

function spaceJson({ root, mode, kind, userRoot, mapped, cpus, isKernels, shared }: FoundSpace): object {
  return {
    root: hex(root),
    mode,
    kind,
    ...(userRoot === undefined ? {} : { userRoot: hex(userRoot) }),
    userBytes: mapped.user,
    kernelBytes: mapped.kernel,
    writableExecutable: mapped.writableExecutable,
    cpus,
    isKernels,
    shared,
  };
}
