/** A dump that is to be written: what is known of the file before any memory is read. */
import type { PageSource } from "../../api.js";

const PAGE = 4096;

/** Bytes of memory and their place in the file. */
export interface Piece {
  readonly gpa: number;
  readonly size: number;
  readonly offset: number;
}

/** Bytes at a place in the file. */
export interface Chunk {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A file as it is to be. */
export interface WrittenDump {
  /** Length in bytes. What no chunk has is zero: a hole, where the file system has holes. */
  readonly size: number;
  /** Pages of memory in it. */
  readonly pages: number;
  /** What the file does not have of the dump, or has otherwise: each a sentence. */
  readonly losses: readonly string[];
  /** Headers and notes, then memory in ascending order; pages that are all zero are left out. Each chunk's bytes are to be used at once. */
  chunks(): IterableIterator<Chunk>;
}

/** The memory of these pieces, page by page. Throws what `source` throws; a page that it does not have is left out. */
export function* memoryChunks(source: PageSource, pieces: Iterable<Piece>): IterableIterator<Chunk> {
  const page = new Uint8Array(PAGE);
  for (const { gpa, size, offset } of pieces) {
    for (let at = 0; at < size; ) {
      const inPage = (gpa + at) % PAGE;
      const length = Math.min(PAGE - inPage, size - at);
      if (source.readPage(BigInt(Math.floor((gpa + at) / PAGE)), page)) {
        const bytes = page.subarray(inPage, inPage + length);
        if (!isZero(bytes)) yield { offset: offset + at, bytes };
      }
      at += length;
    }
  }
}

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) if (bytes[at] !== 0) return false;
  return true;
}
