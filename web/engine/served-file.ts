/** A file on the server that `x86-paging inspect` is: only what is needed of it is fetched. */
import type { BlobLike } from "x86-paging/dump";

/** What can be sent to a worker and made a file of there. */
export interface ServedName {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly url: string;
}

/** What a view hands to a worker: a file that the user chose, or one that is served. */
export type InputFile = File | ServedName;

export class ServedFile implements BlobLike {
  readonly name: string;
  readonly size: number;
  readonly #url: string;

  constructor({ name, size, url }: ServedName) {
    this.name = name;
    this.size = size;
    this.#url = url;
  }

  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> } {
    return { arrayBuffer: () => this.#fetch(start, Math.min(end, this.size)) };
  }

  async #fetch(start: number, end: number): Promise<ArrayBuffer> {
    if (end <= start) return new ArrayBuffer(0);
    const response = await fetch(this.#url, { headers: { range: `bytes=${start}-${end - 1}` } });
    if (response.status !== 206) throw new Error(`${this.name}: the server answers ${response.status}, expected 206`);
    return response.arrayBuffer();
  }
}

/** What can be read of either. */
export function blobOf(file: InputFile): BlobLike {
  return "url" in file ? new ServedFile(file) : file;
}

/** All of a file as a Blob: for readers that take nothing else, of files that are small. Throws where it has more than 256 MiB. */
export async function wholeBlob(file: BlobLike): Promise<Blob> {
  if (file instanceof Blob) return file;
  if (file.size > 2 ** 28) throw new Error(`expected at most 256 MiB, found ${file.size} bytes`);
  return new Blob([await file.slice(0, file.size).arrayBuffer()]);
}
