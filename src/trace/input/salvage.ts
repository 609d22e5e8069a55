/**
 * What can be inflated of damaged gzip data. Platforms' streams throw away what they have not handed out when they come to
 * damage; this goes up to the byte behind which nothing more comes.
 */

/** Compressed bytes that are given to the inflater at once, where nothing is wrong. */
const PIECE = 2 ** 14;

/** Compressed bytes as they come, for when they have to be read again. */
export class Kept {
  /** More are not kept. */
  readonly #most: number;
  readonly #pieces: Uint8Array[] = [];
  #size = 0;

  constructor(most: number) {
    this.#most = most;
  }

  add(piece: Uint8Array): void {
    this.#size += piece.length;
    if (this.#size > this.#most) this.#pieces.length = 0;
    else this.#pieces.push(piece);
  }

  /** undefined where there were too many. */
  get bytes(): Uint8Array | undefined {
    if (this.#size > this.#most) return undefined;
    const bytes = new Uint8Array(this.#size);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }
}

/** What the data inflate to, from byte `from` of it on, as far as they are good. */
export async function* salvaged(bytes: Uint8Array, from: number): AsyncGenerator<Uint8Array> {
  const { GzipInflation } = await import("../../dump/codec/zlib.js");
  let skip = from;
  const beyond = (piece: Uint8Array): Uint8Array => {
    const skipped = Math.min(skip, piece.length);
    skip -= skipped;
    return piece.subarray(skipped);
  };
  const whole = new GzipInflation();
  for (let at = 0; at < bytes.length; at += PIECE) {
    const out = whole.push(bytes.slice(at, at + PIECE));
    if (out !== undefined) {
      for (const piece of out) yield beyond(piece);
      continue;
    }
    // Where in the piece the damage is: byte by byte, behind what came before it.
    const again = new GzipInflation();
    for (let before = 0; before < at; before += PIECE) again.push(bytes.slice(before, before + PIECE));
    for (let one = at; one < Math.min(at + PIECE, bytes.length); one++) {
      const rest = again.push(bytes.slice(one, one + 1));
      if (rest === undefined) return;
      for (const piece of rest) yield beyond(piece);
    }
    return;
  }
}
