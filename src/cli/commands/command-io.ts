/** Where a stand-alone command writes, and how it takes its place in the frame. */
import type { Command } from "commander";

export interface CommandIo {
  /** Writes one line of results; the newline is added. */
  stdout(text: string): void;
  /** Writes one line for people; the newline is added. */
  stderr(text: string): void;
}

/** What the command's frame offers: a part of its context. */
export interface CommandFrame {
  readonly out: { line(text: string): unknown };
  note(text: string): void;
}

/** The frame as a command's output. */
export function ioOf(frame: CommandFrame): CommandIo {
  return {
    stdout: (text) => {
      frame.out.line(text);
    },
    stderr: (text) => frame.note(text),
  };
}

/** Makes a command and its subcommands throw a CommanderError instead of ending the process, and write to `io`. */
export function confine(command: Command, io: CommandIo): Command {
  command.exitOverride().configureOutput({
    writeOut: (text) => io.stdout(text.replace(/\n$/, "")),
    writeErr: (text) => io.stderr(text.replace(/\n$/, "")),
  });
  for (const sub of command.commands) confine(sub, io);
  return command;
}
