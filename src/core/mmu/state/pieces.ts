/** Numbers for equal pieces of linear memory, whatever blocks they lie in: a state names headers, tables and arrays by them. */
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { Block } from "../page-memory.js";

export class Pieces {
  readonly #addresses: number[] = [];
  readonly #numbers = new Map<number, number>();

  constructor(
    readonly blocks: readonly Block[],
    readonly size: number,
  ) {
    for (const { address, count } of blocks) {
      for (let index = 0; index < count; index++) {
        this.#numbers.set(address + index * size, this.#addresses.length);
        this.#addresses.push(address + index * size);
      }
    }
  }

  get count(): number {
    return this.#addresses.length;
  }

  /** Throws StateError where no piece begins. */
  numberOf(address: number): number {
    const number = this.#numbers.get(address);
    if (number === undefined) throw new StateError(`nothing of the virtual machine's lies at ${address}`);
    return number;
  }

  addressOf(number: number): number {
    return this.#addresses[number]!;
  }

  /** Writes where its blocks lie. */
  write(out: StateWriter): void {
    out.list(this.blocks, ({ address, count }) => {
      out.u32(address);
      out.u32(count);
    });
  }
}

/** Blocks that a state has. Throws StateError where they are more than `most` bytes. */
export function readBlocks(from: StateReader, size: number, most: number, what: string): Block[] {
  let bytes = 0;
  return from.list(8, () => {
    const block = { address: from.u32(), count: from.integer(1, 2 ** 20, what) };
    bytes += block.count * size;
    if (bytes > most) throw new StateError(`the state has ${bytes} bytes of ${what}, expected at most ${most}`);
    return block;
  });
}

/** Numbers of pieces that are named once each. */
export class Once {
  readonly #named: Uint8Array;

  constructor(
    readonly count: number,
    readonly what: string,
  ) {
    this.#named = new Uint8Array(count);
  }

  /** Throws StateError for a number that there is none of, or that was named before. */
  name(number: number): number {
    if (number >= this.count || this.#named[number] !== 0) {
      throw new StateError(`the state names ${this.what} ${number} of ${this.count} twice, or there is none`);
    }
    this.#named[number] = 1;
    return number;
  }

  isNamed(number: number): boolean {
    return this.#named[number] === 1;
  }
}
