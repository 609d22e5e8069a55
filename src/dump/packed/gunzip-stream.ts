/** gzip by the platform's DecompressionStream. */
import { CodecError } from "../codec/codec.js";

/** How platforms say that data is missing: "unexpected end of file", "Compressed input was truncated." and the like. */
const TRUNCATED = /trunc|unexpected end|premature|incomplete/i;

/**
 * Decompresses a stream. Throws a CodecError for broken data, and ends where the input does: `ended` is told whether data
 * is missing there.
 */
export async function* gunzipStream(
  input: AsyncIterable<Uint8Array>,
  ended: (truncated: boolean) => void,
): AsyncIterable<Uint8Array> {
  const { readable, writable } = new DecompressionStream("gzip");
  /** All input was taken: what fails then is the end. */
  let exhausted = false;
  /** What went wrong with the input itself. */
  let problem: unknown;
  const feeding = feed(input, writable.getWriter(), {
    exhausted: () => {
      exhausted = true;
    },
    failed: (error) => {
      problem = error;
    },
  });
  const reader = readable.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
    await feeding;
    ended(false);
  } catch (error) {
    await feeding;
    if (problem !== undefined) throw problem;
    const { message } = error as Error;
    // Platforms say of wrong checksums at the end, too.
    if (!exhausted || !TRUNCATED.test(message)) throw new CodecError(message);
    ended(true);
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function feed(
  input: AsyncIterable<Uint8Array>,
  writer: WritableStreamDefaultWriter<BufferSource>,
  tell: { exhausted(): void; failed(error: unknown): void },
): Promise<void> {
  const pieces = input[Symbol.asyncIterator]();
  // What the decompressor makes of it, its reader is told, too.
  const ignore = () => {};
  for (;;) {
    let piece: IteratorResult<Uint8Array>;
    try {
      piece = await pieces.next();
    } catch (error) {
      tell.failed(error);
      await writer.abort(error).catch(ignore);
      return;
    }
    if (piece.done) break;
    const taken = await writer.write(piece.value as BufferSource).then(
      () => true,
      () => false,
    );
    if (!taken) return;
  }
  tell.exhausted();
  await writer.close().catch(ignore);
}
