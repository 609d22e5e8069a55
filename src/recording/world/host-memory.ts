/** Host-virtual memory as the recording implies it, and integers as its bytes. */
import { PAGE_SIZE } from "../format/memory-image.js";

const PAGE = BigInt(PAGE_SIZE);

/** Host-virtual memory, sparse: what a page that was never written holds is zero. */
export class HostMemory {
  readonly #pages = new Map<bigint, Uint8Array>();

  #page(hva: bigint): Uint8Array {
    const base = hva - (hva % PAGE);
    let page = this.#pages.get(base);
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE);
      this.#pages.set(base, page);
    }
    return page;
  }

  write(hva: bigint, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const at = hva + BigInt(done);
      const offset = Number(at % PAGE);
      const length = Math.min(bytes.length - done, PAGE_SIZE - offset);
      this.#page(at).set(bytes.subarray(done, done + length), offset);
      done += length;
    }
  }

  read(hva: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = hva + BigInt(done);
      const offset = Number(at % PAGE);
      const part = Math.min(length - done, PAGE_SIZE - offset);
      const page = this.#pages.get(at - (at % PAGE));
      if (page !== undefined) bytes.set(page.subarray(offset, offset + part), done);
      done += part;
    }
    return bytes;
  }

  /** Addresses of the pages that were ever written, ascending. */
  written(): bigint[] {
    return [...this.#pages.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
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
