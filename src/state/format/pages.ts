/** RAM in a state: the pages that are not zero. */
import { StateError } from "../../errors.js";
import type { StateReader } from "./reader.js";
import type { StateWriter } from "./writer.js";

const PAGE_BYTES = 4096;

/** Writes `bytes`, a multiple of 4096. */
export function writePages(out: StateWriter, bytes: Uint8Array): void {
  const used: number[] = [];
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) if (!isZero(bytes, at)) used.push(at / PAGE_BYTES);
  out.list(used, (page) => {
    out.u32(page);
    out.raw(bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
  });
}

function isZero(bytes: Uint8Array, from: number): boolean {
  for (let at = from; at < from + PAGE_BYTES; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** A page of RAM, as a view of the state. */
export type SavedPage = readonly [offset: number, bytes: Uint8Array];

/** The pages of RAM of `size` bytes. Throws StateError where one lies outside. */
export function readPages(from: StateReader, size: number): SavedPage[] {
  return from.list(4 + PAGE_BYTES, () => {
    const page = from.u32();
    if ((page + 1) * PAGE_BYTES > size) throw new StateError(`the state has page ${page} of ${size} bytes of RAM`);
    return [page * PAGE_BYTES, from.raw(PAGE_BYTES)];
  });
}

/** Fills RAM with them and zeros. */
export function fillPages(ram: Uint8Array, pages: readonly SavedPage[]): void {
  ram.fill(0);
  for (const [offset, bytes] of pages) ram.set(bytes, offset);
}
