/** Writes flattened files, from struct makedumpfile_header and struct makedumpfile_data_header (makedumpfile.h). */
import { concat } from "../builders.js";

/** A block of the real file. */
export interface Block {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** The stream of these blocks, in this order. */
export function flattened(blocks: readonly Block[], end = true): Uint8Array {
  const header = new Uint8Array(4096);
  header.set(new TextEncoder().encode("makedumpfile"));
  const view = new DataView(header.buffer);
  view.setBigInt64(16, 1n);
  view.setBigInt64(24, 1n);
  const head = (offset: bigint, size: bigint) => {
    const bytes = new DataView(new ArrayBuffer(16));
    bytes.setBigInt64(0, offset);
    bytes.setBigInt64(8, size);
    return new Uint8Array(bytes.buffer);
  };
  return concat(
    header,
    ...blocks.flatMap(({ offset, bytes }) => [head(BigInt(offset), BigInt(bytes.length)), bytes]),
    ...(end ? [head(-1n, -1n)] : []),
  );
}

/** A file in blocks of so many bytes. */
export function blocksOf(file: Uint8Array, size: number): Block[] {
  return Array.from({ length: Math.ceil(file.length / size) }, (_, i) => ({
    offset: i * size,
    bytes: file.subarray(i * size, (i + 1) * size),
  }));
}
