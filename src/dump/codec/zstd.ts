/** zstd, by zstddec: Zstandard's own decoder as WebAssembly. It checks checksums, and takes windows of at most 128 MiB. */
import { ZSTDDecoder } from "zstddec/stream";
import { CodecError, type Unpack } from "./codec.js";

/** Results without bytes, one after the other, of one piece of input: there is at most one, but for broken data. */
const MOST_EMPTY = 4;

async function decoder(): Promise<ZSTDDecoder> {
  const one = new ZSTDDecoder();
  await one.init();
  return one;
}

/** Loads what decompresses pages. */
export async function zstdUnpacker(): Promise<Unpack> {
  const zstd = await decoder();
  return (packed, into) => {
    if (packed.length === 0) throw new CodecError("no zstd data");
    // Room for one byte more: longer data is an error there, and gives nothing.
    const unpacked = zstd.decode(packed, into.length + 1);
    if (unpacked.length !== into.length) throw new CodecError("zstd data that is broken or has another length");
    into.set(unpacked);
  };
}

/**
 * Decompresses a stream. Throws a CodecError for broken data, and ends where the input does: `ended` is told whether that
 * is inside a frame.
 */
export async function* unpackZstdStream(
  input: AsyncIterable<Uint8Array>,
  ended: (truncated: boolean) => void,
): AsyncIterable<Uint8Array> {
  const zstd = await decoder();
  const pieces = input[Symbol.asyncIterator]();
  let waiting: Uint8Array | undefined;
  let finished = false;
  let empty = 0;
  // The decoder asks for at most one piece at a time, synchronously: one is always waiting.
  const queue: Iterator<Uint8Array> = {
    next() {
      const value = waiting;
      waiting = undefined;
      empty = 0;
      return value === undefined ? { done: true, value: undefined } : { done: false, value };
    },
  };
  const output = zstd.decodeStreaming({ [Symbol.iterator]: () => queue });
  for (;;) {
    while (waiting === undefined && !finished) {
      const { done, value } = await pieces.next();
      if (done) finished = true;
      else if (value.length > 0) waiting = value;
    }
    let result: IteratorResult<Uint8Array>;
    try {
      result = output.next();
    } catch (error) {
      // "Incomplete stream"
      if (!/incomplete/i.test((error as Error).message)) throw new CodecError((error as Error).message);
      ended(true);
      return;
    }
    if (result.done) break;
    empty = result.value.length === 0 ? empty + 1 : 0;
    if (empty > MOST_EMPTY) throw new CodecError("the decoder makes nothing of it");
    if (result.value.length > 0) yield result.value;
  }
  ended(false);
}
