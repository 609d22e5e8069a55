/** Reading a packed recording from a Blob: in browsers, and wherever else there are Blobs. */
import { CodecError } from "../../dump/codec/codec.js";
import { gunzipStream } from "../../dump/packed/gunzip-stream.js";
import { RecordingError } from "./error.js";
import { MAX_MEMORY, MAX_TEXT } from "./maxima.js";
import { MOST_PACKED, unpackFiles } from "./pack.js";
import { recordingOf } from "./parse-recording.js";
import type { Recording } from "./recording.js";

/** More than any file of a recording inflates to. */
const MOST_INFLATED = Math.max(MAX_MEMORY, MAX_TEXT);

/**
 * Reads a recording that `replay --pack` made one file of.
 * @param name of the file, for messages and as the recording's path. Default: the File's own name, else "recording".
 * @throws RecordingError, which names file and field, where it is not one.
 */
export async function openRecording(
  blob: Blob,
  name = (blob as Partial<File>).name ?? "recording",
): Promise<Recording> {
  if (blob.size > MOST_PACKED)
    throw new RecordingError(name, "", `expected at most ${MOST_PACKED} bytes, found ${blob.size}`);
  const packed = unpackFiles(name, new Uint8Array(await blob.arrayBuffer()));
  const files = new Map<string, Uint8Array>();
  for (const [file, bytes] of packed) {
    // The text of the trace is not a part of what is replayed.
    if (file.startsWith("trace.")) continue;
    files.set(file, file.endsWith(".gz") ? await inflate(`${name}/${file}`, bytes) : bytes);
  }
  return recordingOf(name, (file, limit = MAX_TEXT) => {
    const bytes = files.get(file.slice(name.length + 1));
    if (bytes === undefined) throw new RecordingError(file, "", "is not among the packed files");
    if (bytes.length > limit)
      throw new RecordingError(file, "", `expected at most ${limit} bytes, found ${bytes.length}`);
    return bytes;
  });
}

async function inflate(file: string, bytes: Uint8Array): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  let whole = true;
  const input = (async function* () {
    yield bytes;
  })();
  try {
    for await (const piece of gunzipStream(input, (truncated) => {
      whole = !truncated;
    })) {
      size += piece.length;
      if (size > MOST_INFLATED)
        throw new RecordingError(file, "", `expected at most ${MOST_INFLATED} bytes when inflated, found more`);
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof CodecError)
      throw new RecordingError(file, "", `expected complete gzip data: ${error.message}`);
    throw error;
  }
  if (!whole) throw new RecordingError(file, "", "expected complete gzip data, but they break off");
  const all = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
