/** The `x86-paging` command. */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { registerBench } from "./commands/bench.js";
import { registerConform } from "./commands/conform.js";
import { registerConvert, registerReduce } from "./commands/convert.js";
import { registerDecode } from "./commands/decode.js";
import { registerDiff } from "./commands/diff.js";
import { registerFind } from "./commands/find.js";
import { registerFuzz } from "./commands/fuzz.js";
import { registerInfo } from "./commands/info.js";
import { registerInspect } from "./commands/inspect.js";
import { registerMaps } from "./commands/maps.js";
import { registerPte } from "./commands/pte.js";
import { registerRead } from "./commands/read.js";
import { registerReplay } from "./commands/replay.js";
import { registerRole } from "./commands/role.js";
import { registerSearch } from "./commands/search.js";
import { registerShared } from "./commands/shared.js";
import { registerSpaces } from "./commands/spaces.js";
import { registerSpte } from "./commands/spte.js";
import { registerTour } from "./commands/tour.js";
import { registerTrace } from "./commands/trace.js";
import { registerWalk } from "./commands/walk.js";
import { CliContext } from "./context.js";
import { ExitCode } from "./errors.js";
import { type CliIo, processIo } from "./io.js";
import { OutputClosed } from "./output.js";
import { visible } from "./terminal-text.js";

/** Every command, in the order of the help text. */
const COMMANDS: readonly ((program: Command, context: CliContext) => void)[] = [
  registerInfo,
  registerSpaces,
  registerWalk,
  registerMaps,
  registerFind,
  registerShared,
  registerRead,
  registerSearch,
  registerConvert,
  registerReduce,
  registerPte,
  registerDecode,
  registerConform,
  registerFuzz,
  registerReplay,
  registerDiff,
  registerTrace,
  registerRole,
  registerSpte,
  registerBench,
  registerTour,
  registerInspect,
];

/**
 * Runs the command with arguments as in `process.argv.slice(2)` and returns the exit code: 0 success, 1 nothing mapped
 * or a difference, 2 bad usage or bad input. Never throws.
 */
export async function main(argv: readonly string[], io: CliIo = processIo()): Promise<number> {
  const context = new CliContext(io);
  try {
    await run(context, argv);
    await context.out.flush();
  } catch (error) {
    if (error instanceof OutputClosed) return context.exitCode;
    context.problem(error, context.out.written ? " (what was printed before is not complete)" : "");
    return ExitCode.Failure;
  }
  return context.exitCode;
}

async function run(context: CliContext, argv: readonly string[]): Promise<void> {
  try {
    await buildProgram(context).parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // commander has printed its message already, and the help that was asked for is no error.
    context.exitCode = error.exitCode === 0 ? ExitCode.Success : ExitCode.Failure;
  }
}

function buildProgram(context: CliContext): Command {
  const program = new Command("x86-paging")
    .description(
      "Walks, lists and searches x86 page tables in memory dumps; decodes entries, shadow entries and roles of KVM's MMU.",
    )
    .version(packageVersion(), "-V, --version", "display the package's version")
    .addHelpText("after", "\nExit codes: 0 success, 1 nothing mapped or a difference, 2 bad usage or bad input.");
  configure(program, context);
  // Commands inherit what is configured before they are added.
  for (const register of COMMANDS) register(program, context);
  keepErrorsOnOneLine(program);
  return program;
}

/** package.json lies two folders up, seen from src/cli and from dist/cli. */
function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** Makes commander throw instead of ending the process, and write where the command writes; subcommands as well. */
function configure(command: Command, context: CliContext): void {
  for (const subcommand of command.commands) configure(subcommand, context);
  command.exitOverride().configureOutput({
    writeOut: (text) => {
      context.out.lines(text.replace(/\n$/, ""));
    },
    writeErr: (text) => {
      context.io.stderr.write(text.split("\n").map(visible).join("\n"));
    },
  });
}

/** commander puts its suggestions ("Did you mean ...?") on a line of their own. */
function keepErrorsOnOneLine(command: Command): void {
  command.configureOutput({ outputError: (text, write) => write(`${text.trim().replace(/\s*\n\s*/g, " ")}\n`) });
  for (const sub of command.commands) keepErrorsOnOneLine(sub);
}
