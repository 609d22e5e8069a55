/**
 * Snappy's raw format, from its public description (google/snappy, format_description.txt): the length as a varint, then
 * literals and copies of what came before.
 */
import { CodecError, type Unpack } from "./codec.js";

/** The kind of an element: the low two bits of its first byte. */
const KINDS = 4;
const LITERAL = 0;
const COPY_1 = 1;
const COPY_2 = 2;
/** A literal's length is in the upper six bits of its first byte up to this, above in one to four bytes behind it. */
const LONGEST_SHORT_LITERAL = 60;

export const unpackSnappy: Unpack = (packed, into) => {
  const { length, bytes } = snappyLength(packed);
  if (length !== into.length) throw new CodecError(`snappy data of ${length} bytes`);
  let from = bytes;
  let to = 0;
  while (from < packed.length) {
    const tag = packed[from++]!;
    const kind = tag % KINDS;
    const rest = (tag - kind) / KINDS;
    if (kind === LITERAL) {
      let size = rest + 1;
      if (size > LONGEST_SHORT_LITERAL) {
        const extra = size - LONGEST_SHORT_LITERAL;
        size = littleEndian(packed, from, extra) + 1;
        from += extra;
      }
      if (size > packed.length - from || size > into.length - to)
        throw new CodecError("a snappy literal that is too long");
      into.set(packed.subarray(from, from + size), to);
      from += size;
      to += size;
      continue;
    }
    let size: number;
    let offset: number;
    if (kind === COPY_1) {
      // Three bits of length, then three of the offset, whose low byte follows.
      size = (rest % 8) + 4;
      offset = Math.floor(rest / 8) * 256 + littleEndian(packed, from, 1);
      from += 1;
    } else {
      const width = kind === COPY_2 ? 2 : 4;
      size = rest + 1;
      offset = littleEndian(packed, from, width);
      from += width;
    }
    if (offset === 0 || offset > to || size > into.length - to) throw new CodecError("a snappy copy from outside");
    // The copy may read what it writes.
    for (const end = to + size; to < end; to++) into[to] = into[to - offset]!;
  }
  if (to !== into.length) throw new CodecError(`snappy data that ends after ${to} bytes`);
};

/** The length that snappy data says that it has, and the bytes that this takes. */
export function snappyLength(packed: Uint8Array): { readonly length: number; readonly bytes: number } {
  let length = 0;
  for (let i = 0; i < 5; i++) {
    const byte = packed[i];
    if (byte === undefined) break;
    length += (byte % 128) * 128 ** i;
    if (byte < 128) return { length, bytes: i + 1 };
  }
  throw new CodecError("snappy data without a length");
}

function littleEndian(bytes: Uint8Array, at: number, width: number): number {
  if (at + width > bytes.length) throw new CodecError("snappy data that breaks off");
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}
