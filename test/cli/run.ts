/** Runs a stand-alone command as the frame does. */
import { type Command, CommanderError } from "commander";
import type { CommandIo } from "../../src/cli/commands/command-io.js";

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Arguments after the command's name; errors become exit code 2 and one line, as in the frame. */
export async function runCommand(build: (io: CommandIo) => Command, ...args: string[]): Promise<CommandResult> {
  let stdout = "";
  let stderr = "";
  const io: CommandIo = {
    stdout: (text) => {
      stdout += `${text}\n`;
    },
    stderr: (text) => {
      stderr += `${text}\n`;
    },
  };
  try {
    await build(io).parseAsync(args, { from: "user" });
    return { exitCode: 0, stdout, stderr };
  } catch (error) {
    if (error instanceof CommanderError) return { exitCode: error.exitCode === 0 ? 0 : 2, stdout, stderr };
    return { exitCode: 2, stdout, stderr: `${stderr}error: ${(error as Error).message}\n` };
  }
}
