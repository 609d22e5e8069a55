/** xz, by xz-decompress: xz-embedded as WebAssembly. It checks CRC32 and CRC64. */
import * as library from "xz-decompress";
import { CodecError } from "./codec.js";

/** A CommonJS module: what it exports is its default, or it is all of it, as loaders have it. */
const { XzReadableStream } = (library as unknown as { default?: typeof library }).default ?? library;

/** Output without bytes, one after the other, once there is no input any more. */
const MOST_EMPTY = 16;

/**
 * Decompresses a stream. Throws a CodecError for broken data, and ends where the input does: `ended` is told whether that
 * is inside the xz stream.
 */
export async function* unpackXzStream(
  input: AsyncIterable<Uint8Array>,
  ended: (truncated: boolean) => void,
): AsyncIterable<Uint8Array> {
  const pieces = input[Symbol.asyncIterator]();
  let exhausted = false;
  let problem: unknown;
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await pieces.next();
          if (!done) {
            controller.enqueue(value);
            return;
          }
          exhausted = true;
          controller.close();
        } catch (error) {
          problem = error;
          controller.error(error);
        }
      },
    },
    { highWaterMark: 0 },
  );
  const reader = new XzReadableStream(stream).getReader();
  let empty = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      empty = exhausted && value.length === 0 ? empty + 1 : 0;
      if (empty > MOST_EMPTY) throw new CodecError("xz data that breaks off");
      if (value.length > 0) yield value;
    }
  } catch (error) {
    if (problem !== undefined) throw problem;
    if (!exhausted) throw error instanceof CodecError ? error : new CodecError((error as Error).message);
    ended(true);
    return;
  } finally {
    await reader.cancel().catch(() => {});
  }
  ended(false);
}
