/**
 * LZO1X, from the description of its stream format in the kernel's documentation (Documentation/staging/lzo.rst).
 *
 * Each instruction copies `length` bytes from `distance` before the end of what there is, then 0 to 3 literals (the
 * "state", which decides what a small instruction means next).
 */
import { CodecError, type Unpack } from "./codec.js";

/** First bytes from here on are a run of literals at the start of the stream. */
const FIRST_LITERALS = 17;
/** Literals before an instruction: 0, 1 to 3, or 4 and more. */
const AFTER_LONG_LITERALS = 4;
/** Distance that is added for the three-byte copy behind many literals. */
const FAR_SHORT = 0x801;
/** Distance that is added for the instruction of far copies, which ends the stream where it is all there is. */
const FAR = 16384;

export const unpackLzo: Unpack = (packed, into) => {
  let from = 0;
  let to = 0;
  const next = () => {
    if (from >= packed.length) throw new CodecError("lzo data that breaks off");
    return packed[from++]!;
  };
  const literals = (count: number) => {
    if (count > packed.length - from || count > into.length - to)
      throw new CodecError("an lzo literal that is too long");
    into.set(packed.subarray(from, from + count), to);
    from += count;
    to += count;
  };
  const copy = (distance: number, count: number) => {
    if (distance > to || count > into.length - to) throw new CodecError("an lzo copy from outside");
    // The copy may read what it writes.
    for (const end = to + count; to < end; to++) into[to] = into[to - distance]!;
  };
  /** A length whose bits are all zero goes on: 255 for each zero byte, and the byte behind them. */
  const longer = (least: number) => {
    let length = least;
    for (let byte = next(); ; byte = next()) {
      if (byte !== 0) return length + byte;
      length += 255;
      if (length > into.length) throw new CodecError("an lzo length that is too long");
    }
  };
  let state = 0;
  if (packed.length > 0 && packed[0]! > FIRST_LITERALS) {
    const count = next() - FIRST_LITERALS;
    literals(count);
    state = Math.min(count, AFTER_LONG_LITERALS);
  }
  for (;;) {
    const code = next();
    /** What the low two bits of the instruction, or of its distance, say. */
    let trailing: number;
    if (code < 16) {
      if (state === 0) {
        literals(code === 0 ? longer(18) : code + 3);
        state = AFTER_LONG_LITERALS;
        continue;
      }
      trailing = code % 4;
      const distance = next() * 4 + (code >> 2);
      if (state === AFTER_LONG_LITERALS) copy(distance + FAR_SHORT, 3);
      else copy(distance + 1, 2);
    } else if (code < 32) {
      const length = code % 8 === 0 ? longer(9) : (code % 8) + 2;
      const low = next();
      const distance = (code >= 24 ? FAR : 0) + next() * 64 + (low >> 2);
      if (distance === 0) {
        if (length !== 3) throw new CodecError("an lzo end mark that is none");
        break;
      }
      trailing = low % 4;
      copy(distance + FAR, length);
    } else if (code < 64) {
      const length = code === 32 ? longer(33) : (code % 32) + 2;
      const low = next();
      trailing = low % 4;
      copy(next() * 64 + (low >> 2) + 1, length);
    } else {
      // 01LDDDSS and 1LLDDDSS: the length's bits are above the three of the distance.
      const length = code < 128 ? 3 + ((code >> 5) % 2) : 5 + ((code >> 5) % 4);
      trailing = code % 4;
      copy(next() * 8 + ((code >> 2) % 8) + 1, length);
    }
    literals(trailing);
    state = trailing;
  }
  if (from !== packed.length) throw new CodecError("bytes behind the end of lzo data");
  if (to !== into.length) throw new CodecError(`lzo data that ends after ${to} bytes`);
};
