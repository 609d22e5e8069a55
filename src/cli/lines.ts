/** Lines of text files, gzip or not. */
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { CliError } from "./errors.js";
import { openText } from "./text-file.js";

/** Longer lines are refused: no list and no vector has such. */
const LONGEST = 2 ** 20;
/** So are more lines without content. */
const MOST_EMPTY = 2 ** 20;

/** Vectors shrink to a tenth: more than these many bytes, and this multiple of the file's, is made to keep a reader busy. */
const LEAST_INFLATED = 2 ** 26;
const INFLATED_RATIO = 32;

/** The lines of `input`; a stream that fails, or has lines that are too long, is a CliError that begins with `name`. */
export async function* linesOf(input: AsyncIterable<string | Uint8Array>, name: string): AsyncGenerator<string> {
  const lines = new LineSplitter(name);
  const decoder = new TextDecoder();
  try {
    for await (const chunk of input) {
      yield* lines.of(typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true }));
    }
  } catch (error) {
    throw readError(error, name);
  }
  yield* lines.of(decoder.decode());
  yield* lines.rest();
}

/** Cuts text that comes in pieces into lines; each piece is looked at once. */
class LineSplitter {
  #number = 1;
  #empty = 0;
  /** Pieces of a line that has not ended. */
  #pieces: string[] = [];
  #length = 0;
  readonly #name: string;

  constructor(name: string) {
    this.#name = name;
  }

  *of(text: string): Iterable<string> {
    let from = 0;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", from)) {
      this.#add(text.slice(from, end));
      yield this.#take();
      from = end + 1;
    }
    this.#add(text.slice(from));
  }

  /** The last line, where no line break follows it. */
  *rest(): Iterable<string> {
    if (this.#length > 0) yield this.#take();
  }

  #add(piece: string): void {
    if (piece === "") return;
    this.#length += piece.length;
    if (this.#length > LONGEST) {
      throw new CliError(`${this.#name}: line ${this.#number}: expected at most ${LONGEST} characters, found more`);
    }
    this.#pieces.push(piece);
  }

  #take(): string {
    const line = this.#pieces.join("");
    this.#pieces = [];
    this.#length = 0;
    if (line.trim() === "" && ++this.#empty > MOST_EMPTY) {
      throw new CliError(`${this.#name}: line ${this.#number}: expected at most ${MOST_EMPTY} empty lines, found more`);
    }
    this.#number++;
    return line;
  }
}

/** The lines of a file; gzip is recognised by its first two bytes. */
export async function* linesOfFile(path: string): AsyncGenerator<string> {
  const { chunks, size } = openText(path);
  try {
    yield* linesOf(await inflated(chunks, size, path), path);
  } catch (error) {
    throw readError(error, path);
  }
}

/** `chunks`, inflated where they begin as gzip data do; `size` is that of the file. */
async function inflated(
  chunks: AsyncIterable<Uint8Array>,
  size: number,
  name: string,
): Promise<AsyncIterable<Uint8Array>> {
  const source = chunks[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < 2) {
    const { done, value } = await source.next();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  const all = (async function* () {
    yield head;
    for (let next = await source.next(); !next.done; next = await source.next()) yield next.value;
  })();
  return head[0] === 0x1f && head[1] === 0x8b ? inflate(all, size, name) : all;
}

async function* inflate(chunks: AsyncIterable<Uint8Array>, size: number, name: string): AsyncIterable<Uint8Array> {
  const limit = Math.max(LEAST_INFLATED, INFLATED_RATIO * size);
  let read = 0;
  /** Where the last byte that is not zero ends. */
  let used = 0;
  const counted = (async function* () {
    for await (const chunk of chunks) {
      let end = chunk.length;
      while (end > 0 && chunk[end - 1] === 0) end--;
      if (end > 0) used = read + end;
      read += chunk.length;
      yield chunk;
    }
  })();
  const input = Readable.from(counted);
  const gunzip = createGunzip();
  input.on("error", (error) => gunzip.destroy(error));
  let inflatedBytes = 0;
  for await (const chunk of input.pipe(gunzip)) {
    inflatedBytes += (chunk as Uint8Array).length;
    if (inflatedBytes > limit) {
      throw new CliError(`${name}: expected at most ${limit} bytes of inflated text, found more`);
    }
    yield chunk as Uint8Array;
  }
  // Node ends the stream silently at a zero byte behind a member: only zeros may follow.
  for await (const _ of counted);
  const end = gunzip.bytesWritten;
  if (used > end) {
    throw new CliError(`${name}: offset 0x${end.toString(16)}: expected the end of the gzip data, found more bytes`);
  }
}

function readError(error: unknown, name: string): unknown {
  const { message, syscall, code } = error as NodeJS.ErrnoException;
  if (code?.startsWith("Z_") || code === "ERR_STREAM_PREMATURE_CLOSE") {
    return new CliError(`${name}: the gzip data are damaged or break off: ${message}`);
  }
  if (syscall === undefined) return error;
  return new CliError(`${name}: cannot be read: ${/^E[A-Z]+: ([^,]+)/.exec(message)?.[1] ?? message}`);
}
