/** Text output in chunks, at the reader's pace. */
import { setImmediate } from "node:timers/promises";
import type { CliIo } from "./io.js";

/** Text is handed to the stream in chunks of about this many characters. */
const CHUNK = 2 ** 16;

/** The reader has gone away (EPIPE): nothing more is to be written, and nothing is wrong. */
export class OutputClosed extends Error {
  override name = "OutputClosed";
}

/** Collects lines and writes them in chunks; memory does not grow with the output. */
export class Output {
  readonly #stream: CliIo["stdout"];
  #pending = "";
  #failure: Error | undefined;

  constructor(stream: CliIo["stdout"]) {
    this.#stream = stream;
    stream.on("error", (error: Error) => {
      this.#failure ??= error;
    });
  }

  /** True if the stream is a terminal. */
  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  /** Adds a line. Where a promise is returned, await it before the next line. */
  line(text: string): Promise<void> | undefined {
    this.#pending += `${text}\n`;
    return this.#pending.length < CHUNK ? undefined : this.flush();
  }

  /** Writes what is pending and waits until the stream has taken it. Rejects with OutputClosed after EPIPE. */
  async flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = "";
    if (text !== "") {
      await new Promise<void>((resolve) => {
        this.#stream.write(text, (error) => {
          if (error) this.#failure ??= error;
          resolve();
        });
      });
      // Timers (a progress bar) and stream errors get their turn.
      await setImmediate();
    }
    if (this.#failure !== undefined) {
      throw (this.#failure as NodeJS.ErrnoException).code === "EPIPE" ? new OutputClosed() : this.#failure;
    }
  }
}
