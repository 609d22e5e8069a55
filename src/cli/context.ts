/** What every command gets. */
import type { PagingEngine } from "../api.js";
import { type EngineName, loadEngine } from "./engine.js";
import type { CliIo } from "./io.js";
import { Output } from "./output.js";
import { type Styler, stylerFor } from "./style.js";

export class CliContext {
  readonly io: CliIo;
  readonly out: Output;
  /** Styles text for standard output. */
  readonly style: Styler;
  /** What the command ends with unless it fails. */
  exitCode = 0;

  constructor(io: CliIo) {
    this.io = io;
    this.out = new Output(io.stdout);
    this.style = stylerFor(io.stdout, io.env);
    // A reader of messages that goes away is no reason to fail.
    io.stderr.on("error", () => {});
  }

  /** Writes a line for people to standard error. */
  note(text: string): void {
    this.io.stderr.write(`${text}\n`);
  }

  engine(name: EngineName): Promise<PagingEngine> {
    return loadEngine(name);
  }
}
