/** Cuts bytes that come in chunks into lines, without copying those that lie whole in a chunk. */

const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** Longer lines are no events: what is beyond is passed over. */
export const LONGEST_LINE = 2 ** 16;

/** What happens with a line: where it lies; it is gone when the call returns. */
export type OnLine = (bytes: Uint8Array, from: number, to: number) => void;

export class LineSplitter {
  /** Lines that were longer than `LONGEST_LINE`. */
  overlong = 0;
  /** Lines so far, empty ones too. */
  lines = 0;
  readonly #onLine: OnLine;
  /** The beginning of a line that has not ended. */
  readonly #held = new Uint8Array(LONGEST_LINE);
  #length = 0;
  /** The line in `#held` is too long: its rest is passed over. */
  #skipping = false;

  constructor(onLine: OnLine) {
    this.#onLine = onLine;
  }

  push(chunk: Uint8Array): void {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      if (this.#length > 0 || this.#skipping) {
        this.#hold(chunk, from, end);
        this.#take();
      } else if (end - from > LONGEST_LINE) {
        this.overlong++;
        this.lines++;
      } else this.#give(chunk, from, end);
      from = end + 1;
    }
    this.#hold(chunk, from, chunk.length);
  }

  /** The input has ended; true where its last line did not. */
  finish(): boolean {
    if (this.#length === 0 && !this.#skipping) return false;
    this.#take();
    return true;
  }

  #hold(chunk: Uint8Array, from: number, to: number): void {
    if (to <= from || this.#skipping) return;
    if (this.#length + to - from > LONGEST_LINE) {
      this.#skipping = true;
      return;
    }
    this.#held.set(chunk.subarray(from, to), this.#length);
    this.#length += to - from;
  }

  #take(): void {
    if (this.#skipping) {
      this.overlong++;
      this.lines++;
    } else this.#give(this.#held, 0, this.#length);
    this.#length = 0;
    this.#skipping = false;
  }

  #give(bytes: Uint8Array, from: number, to: number): void {
    this.lines++;
    this.#onLine(bytes, from, to > from && bytes[to - 1] === RETURN ? to - 1 : to);
  }
}
