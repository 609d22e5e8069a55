/** The size that a compressed file says that it inflates to, before anything is inflated. */
import type { Packing } from "./packing.js";

/** Reads so many bytes of the file, fewer at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/** An index of more bytes is not read: it is that of a file of a terabyte. */
const LARGEST_INDEX = 2 ** 26;
const XZ_FOOTER = 12;
const XZ_HEADER = 12;

/**
 * What the file says of its size: of xz what the index at its end says (which is not there where the file breaks off),
 * of zstd what the first frame says. Undefined where it says nothing: gzip's size is one of 32 bits, of the last member.
 */
export async function declaredSize(packing: Packing, size: number, read: ReadAt): Promise<number | undefined> {
  if (packing === "zstd") return zstdSize(await read(0, 18));
  return packing === "xz" ? xzSize(size, read) : undefined;
}

/** RFC 8878, "Frame_Header". */
function zstdSize(head: Uint8Array): number | undefined {
  const descriptor = head[4];
  if (descriptor === undefined) return undefined;
  const single = (descriptor >> 5) % 2;
  const sizeFlag = descriptor >> 6;
  const dictionary = [0, 1, 2, 4][descriptor % 4]!;
  const width = [single, 2, 4, 8][sizeFlag]!;
  const at = 6 - single + dictionary;
  if (width === 0 || at + width > head.length) return undefined;
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + head[at + i]!;
  return width === 2 ? value + 256 : value;
}

/** The .xz file format, "Stream Footer" and "Index": pairs of sizes of all blocks. */
async function xzSize(size: number, read: ReadAt): Promise<number | undefined> {
  const footer = await read(size - XZ_FOOTER, XZ_FOOTER);
  if (size < XZ_HEADER + XZ_FOOTER || footer[10] !== 0x59 || footer[11] !== 0x5a) return undefined;
  const indexSize = (new DataView(footer.buffer, footer.byteOffset).getUint32(4, true) + 1) * 4;
  if (indexSize > LARGEST_INDEX || indexSize > size - XZ_HEADER - XZ_FOOTER) return undefined;
  const index = await read(size - XZ_FOOTER - indexSize, indexSize);
  if (index.length !== indexSize || index[0] !== 0) return undefined;
  let at = 1;
  const number = () => {
    let value = 0;
    for (let shift = 0; shift < 9; shift++) {
      const byte = index[at++];
      if (byte === undefined) return undefined;
      value += (byte % 128) * 128 ** shift;
      if (byte < 128) return value;
    }
    return undefined;
  };
  const records = number();
  if (records === undefined || records > indexSize) return undefined;
  let total = 0;
  for (let i = 0; i < records; i++) {
    const [, inflated] = [number(), number()];
    if (inflated === undefined) return undefined;
    total += inflated;
  }
  return total;
}
