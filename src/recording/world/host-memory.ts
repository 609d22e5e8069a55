/** Host-virtual memory as the recording implies it, and integers as its bytes. */
import { PAGE_SIZE } from "../format/memory-image.js";

const SHIFT = BigInt(Math.log2(PAGE_SIZE));
const OFFSET = BigInt(PAGE_SIZE - 1);

/** Host-virtual memory, sparse: what a page that was never written holds is zero. */
export class HostMemory {
  /** By page number, which is a number: there are 52 bits of it at most. */
  readonly #pages = new Map<number, Uint8Array>();
  /** What many pages have, until they are written: their beginning, and a page of it. */
  #beginning = new Uint8Array(0);
  #common = new Uint8Array(PAGE_SIZE);

  /** Has every page of a range, of whole pages that were never written, begin with these bytes; the same for all ranges. */
  begin(hva: bigint, size: bigint, bytes: Uint8Array): void {
    this.#beginning = new Uint8Array(bytes);
    this.#common.set(bytes);
    const first = Number(hva >> SHIFT);
    for (let page = first; page < first + Number(size >> SHIFT); page++) this.#pages.set(page, this.#common);
  }

  write(hva: bigint, bytes: Uint8Array): void {
    let page = Number(hva >> SHIFT);
    let offset = Number(hva & OFFSET);
    for (let done = 0; done < bytes.length; page++, offset = 0) {
      const length = Math.min(bytes.length - done, PAGE_SIZE - offset);
      let there = this.#pages.get(page);
      if (there === undefined || there === this.#common) {
        there = there === undefined ? new Uint8Array(PAGE_SIZE) : new Uint8Array(there);
        this.#pages.set(page, there);
      }
      there.set(bytes.subarray(done, done + length), offset);
      done += length;
    }
  }

  read(hva: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let page = Number(hva >> SHIFT);
    let offset = Number(hva & OFFSET);
    for (let done = 0; done < length; page++, offset = 0) {
      const part = Math.min(length - done, PAGE_SIZE - offset);
      const there = this.#pages.get(page);
      if (there !== undefined) bytes.set(there.subarray(offset, offset + part), done);
      done += part;
    }
    return bytes;
  }

  /** What every page holds that is not all zero, ascending: as much of it as is not zero for sure. */
  *contents(): IterableIterator<{ readonly hva: bigint; readonly bytes: Uint8Array }> {
    for (const page of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const there = this.#pages.get(page)!;
      yield { hva: BigInt(page) << SHIFT, bytes: there === this.#common ? this.#beginning : there };
    }
  }
}

/** Little-endian bytes of the low `length` bytes of `value`. */
export function toBytes(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let rest = value;
  for (let index = 0; index < length; index++) {
    bytes[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

export function fromBytes(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let index = bytes.length - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[index]!);
  return value;
}
