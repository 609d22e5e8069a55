/** What every command gets. */
import type { PagingEngine } from "../api.js";
import { type EngineName, loadEngine } from "./engine.js";
import type { CliIo } from "./io.js";
import { Output } from "./output.js";
import type { Styler } from "./style.js";
import { TerminalText, visible } from "./terminal-text.js";

export class CliContext {
  readonly io: CliIo;
  readonly out: Output;
  /** Styles text for standard output. */
  readonly style: Styler;
  /** What the command ends with unless it fails. */
  exitCode = 0;

  constructor(io: CliIo) {
    this.io = io;
    const text = new TerminalText(io.stdout, io.env);
    this.out = new Output(io.stdout, text);
    this.style = text.style;
    // A reader of messages that goes away is no reason to fail.
    io.stderr.on("error", () => {});
  }

  /** Writes a line for people to standard error. */
  note(text: string): void {
    this.io.stderr.write(`${visible(text)}\n`);
  }

  /** Writes what went wrong to standard error, as one line. */
  problem(error: unknown, addition = ""): void {
    this.note(`error: ${oneLine(error)}${addition}`);
  }

  engine(name: EngineName): Promise<PagingEngine> {
    return loadEngine(name);
  }
}

function oneLine(error: unknown): string {
  const message =
    (error as NodeJS.ErrnoException).syscall === "write"
      ? `the output cannot be written: ${(error as Error).message}`
      : error instanceof Error
        ? error.message
        : String(error);
  return message.replace(/\s*\n\s*/g, " ");
}
