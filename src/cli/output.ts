/** Text output in chunks, at the reader's pace. */
import { setImmediate } from "node:timers/promises";
import type { CliIo } from "./io.js";
import type { TerminalText } from "./terminal-text.js";

/** Text is handed to the stream in chunks of about this many characters. */
const CHUNK = 2 ** 16;

/** The reader has gone away (EPIPE): nothing more is to be written, and nothing is wrong. */
export class OutputClosed extends Error {
  override name = "OutputClosed";
}

/** Collects lines and writes them in chunks; memory does not grow with the output. */
export class Output {
  readonly #stream: CliIo["stdout"];
  readonly #text: TerminalText;
  #pending = "";
  #failure: Error | undefined;
  #written = false;

  constructor(stream: CliIo["stdout"], text: TerminalText) {
    this.#stream = stream;
    this.#text = text;
    stream.on("error", (error: Error) => {
      this.#failure ??= error;
    });
  }

  /** True if the stream is a terminal. */
  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  /** True if the stream has taken some text. */
  get written(): boolean {
    return this.#written;
  }

  /**
   * Adds a line; line breaks in it are shown, not made. Where a promise is returned, await it before the next line:
   * it rejects as `flush` does, and so does the next `flush`.
   */
  line(text: string): Promise<void> | undefined {
    this.#pending += `${this.#text.line(text)}\n`;
    if (this.#pending.length < CHUNK) return undefined;
    const flushed = this.flush();
    // Who does not wait sees the failure at the end.
    flushed.catch(() => {});
    return flushed;
  }

  /** Adds text of several lines, as `line` does each. */
  lines(text: string): Promise<void> | undefined {
    let wait: Promise<void> | undefined;
    for (const line of text.split("\n")) wait = this.line(line) ?? wait;
    return wait;
  }

  /** Writes bytes as they are, behind what is pending; `bytes` may be used again at once. Rejects as `flush` does. */
  async bytes(bytes: Uint8Array): Promise<void> {
    const copy = bytes.slice();
    await this.flush();
    await this.#write(copy);
    await this.flush();
  }

  /** Writes what is pending and waits until the stream has taken it. Rejects with OutputClosed after EPIPE. */
  async flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = "";
    if (text !== "" && this.#failure === undefined) {
      await this.#write(text);
      // Timers (a progress bar) and stream errors get their turn.
      await setImmediate();
    }
    if (this.#failure !== undefined) {
      throw (this.#failure as NodeJS.ErrnoException).code === "EPIPE" ? new OutputClosed() : this.#failure;
    }
  }

  #write(chunk: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#stream.write(chunk, (error) => {
        if (error) this.#failure ??= error;
        else this.#written = true;
        resolve();
      });
    });
  }
}
