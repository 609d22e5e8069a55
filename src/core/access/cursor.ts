/** Going through linear addresses as two halves. */
import { joined } from "./translator.js";

const PAGE_BYTES = 4096;

export class Cursor {
  high: number;
  low: number;
  readonly #narrow: boolean;

  /** `narrow`: addresses have 32 bits. */
  constructor(address: bigint, narrow: boolean) {
    this.high = Number(address >> 32n);
    this.low = Number(address & 0xffff_ffffn);
    this.#narrow = narrow;
  }

  get address(): bigint {
    return joined(this.high, this.low);
  }

  /** Bytes from here to the end of the 4 KiB page. */
  get bytesInPage(): number {
    return PAGE_BYTES - (this.low & 0xfff);
  }

  /** Goes on by at most 2^32 bytes; after the last address comes 0. */
  advance(bytes: number): void {
    const low = this.low + bytes;
    this.low = low >>> 0;
    if (low >= 2 ** 32) this.high = this.#narrow ? 0 : (this.high + 1) >>> 0;
  }
}
