/** Reading a recording from its folder, or from the one file that it was packed into: its files, inflated and parsed. */
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { RecordingError } from "./error.js";
import { MAX_MEMORY, MAX_TEXT } from "./maxima.js";
import { isPacked, MOST_PACKED, unpackFiles } from "./pack.js";
import { parseScenario, recordingOf } from "./parse-recording.js";
import type { Recording } from "./recording.js";

export { parseScenario };

/**
 * The bytes of a file of the recording, inflated where its name ends in .gz. Throws RecordingError where it is no
 * regular file, or has more bytes than `limit`.
 */
export function readBytes(file: string, limit = MAX_TEXT): Uint8Array {
  return inflated(file, readFile(file, file.endsWith(".gz") ? MAX_MEMORY : limit), limit);
}

/** The same of bytes that are there. */
function inflated(file: string, bytes: Uint8Array, limit: number): Uint8Array {
  if (!file.endsWith(".gz")) {
    if (bytes.length > limit)
      throw new RecordingError(file, "", `expected at most ${limit} bytes, found ${bytes.length}`);
    return bytes;
  }
  let result: { buffer: Uint8Array; engine: { bytesWritten: number } };
  try {
    result = gunzipSync(bytes, { maxOutputLength: Math.max(limit, 1), info: true }) as unknown as typeof result;
  } catch (error) {
    const problem =
      (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE"
        ? `expected at most ${limit} bytes when inflated, found more`
        : `expected complete gzip data: ${error instanceof Error ? error.message : String(error)}`;
    throw new RecordingError(file, "", problem);
  }
  const end = result.engine.bytesWritten;
  // Node stops silently at a zero byte behind a member.
  if (bytes.subarray(end).some((byte) => byte !== 0)) {
    throw new RecordingError(
      file,
      `offset 0x${end.toString(16)}`,
      "expected the end of the gzip data, found more bytes",
    );
  }
  return result.buffer;
}

function readFile(file: string, limit: number): Uint8Array {
  let bytes: Uint8Array;
  let size: number;
  try {
    const stat = statSync(file);
    // Opening a pipe that nobody writes to would wait for ever.
    if (!stat.isFile()) throw new RecordingError(file, "", "expected a regular file");
    size = stat.size;
    if (size > limit) throw new RecordingError(file, "", `expected at most ${limit} bytes, found ${size}`);
    bytes = readFileSync(file);
  } catch (error) {
    if (error instanceof RecordingError) throw error;
    throw new RecordingError(file, "", `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (bytes.length < size) {
    throw new RecordingError(file, "", `expected ${size} bytes, but only ${bytes.length} could be read`);
  }
  return bytes;
}

/**
 * Reads the recording in the folder `path` (scenario.json.gz, guestmem_before and guestmem_after), or the packed file.
 * Throws RecordingError, which names file and field, where it is not one.
 */
export function readRecording(path: string): Recording {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return recordingOf(path, readBytes);
  const files = unpackFiles(path, readFile(path, MOST_PACKED));
  return recordingOf(path, (file, limit = MAX_TEXT) => {
    const bytes = files.get(file.slice(path.length + 1));
    if (bytes === undefined) throw new RecordingError(file, "", "is not among the packed files");
    return inflated(file, bytes, limit);
  });
}

/** Whether a regular file has the beginning of a packed recording; false where it cannot be read. */
export function isPackedFile(path: string): boolean {
  let file: number | undefined;
  try {
    if (!statSync(path).isFile()) return false;
    file = openSync(path, "r");
    const head = new Uint8Array(PACKED_HEAD);
    return isPacked(head.subarray(0, readSync(file, head)));
  } catch {
    return false;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Bytes that tell a packed recording. */
const PACKED_HEAD = 64;
