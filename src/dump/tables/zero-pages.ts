/** Which pages are known to be all zero: a bit for each, where there are any. */

/** Frames of one block of bits. */
const BLOCK = 2 ** 15;

export class ZeroPages {
  readonly #blocks = new Map<number, Uint32Array>();

  note(frame: number): void {
    const number = Math.floor(frame / BLOCK);
    let block = this.#blocks.get(number);
    if (block === undefined) {
      block = new Uint32Array(BLOCK / 32);
      this.#blocks.set(number, block);
    }
    const bit = frame % BLOCK;
    block[bit >>> 5]! |= 1 << (bit & 31);
  }

  has(frame: number): boolean {
    const bit = frame % BLOCK;
    const block = this.#blocks.get(Math.floor(frame / BLOCK));
    return block !== undefined && ((block[bit >>> 5]! >>> (bit & 31)) & 1) === 1;
  }
}
