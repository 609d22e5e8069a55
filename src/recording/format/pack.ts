/**
 * A recording in one file: a line of JSON that says what is in it, and the files as they are, one behind the other.
 *
 *     {"format":"x86-paging recording","version":1,"files":[{"name":"scenario.json.gz","size":9120},...]}
 */
import { RecordingError } from "./error.js";
import { MAX_MEMORY } from "./maxima.js";

const FORMAT = "x86-paging recording";
const VERSION = 1;
const BEGINNING = `{"format":"${FORMAT}"`;
const NEWLINE = "\n".charCodeAt(0);
/** No line with so few names is longer. */
const LONGEST_LINE = 2 ** 16;

/** What is packed, where it is there. */
export const PACKED_NAMES = [
  "scenario.json.gz",
  "guestmem_before.idx.json",
  "guestmem_before.bin.gz",
  "guestmem_after.idx.json",
  "guestmem_after.bin.gz",
  "trace.txt.gz",
] as const;

/** Suffix of packed files' names. */
export const PACKED_SUFFIX = ".recording";

/** A packed file has at most so many bytes. */
export const MOST_PACKED = PACKED_NAMES.length * MAX_MEMORY;

/** One file of several, by name. */
export function packFiles(files: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  const index = [...files].map(([name, { length }]) => ({ name, size: length }));
  const line = new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, version: VERSION, files: index })}\n`);
  const packed = new Uint8Array(line.length + index.reduce((sum, { size }) => sum + size, 0));
  packed.set(line);
  let at = line.length;
  for (const bytes of files.values()) {
    packed.set(bytes, at);
    at += bytes.length;
  }
  return packed;
}

/** Whether a file that begins with these bytes (64 are enough) is a recording that `replay --pack` made one file of. */
export function isPacked(bytes: Uint8Array): boolean {
  return new TextDecoder("latin1").decode(bytes.subarray(0, BEGINNING.length)) === BEGINNING;
}

/** The files by name. Throws RecordingError, which begins with `path`, where it is no packed recording, or is damaged. */
export function unpackFiles(path: string, bytes: Uint8Array): Map<string, Uint8Array> {
  const end = bytes.subarray(0, LONGEST_LINE).indexOf(NEWLINE);
  if (!isPacked(bytes) || end < 0) throw new RecordingError(path, "", "expected a folder, or a packed recording");
  const files = new Map<string, Uint8Array>();
  let at = end + 1;
  for (const { name, size } of indexOf(path, new TextDecoder().decode(bytes.subarray(0, end)))) {
    if (at + size > bytes.length) {
      throw new RecordingError(path, name, `expected ${size} bytes, but the file ends after ${bytes.length - at}`);
    }
    files.set(name, bytes.subarray(at, at + size));
    at += size;
  }
  if (at < bytes.length)
    throw new RecordingError(path, "", `expected the end of the file, found ${bytes.length - at} more bytes`);
  return files;
}

function indexOf(path: string, line: string): { readonly name: string; readonly size: number }[] {
  let parsed: { version?: unknown; files?: unknown };
  try {
    parsed = JSON.parse(line) as typeof parsed;
  } catch (error) {
    throw new RecordingError(path, "line 1", `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { version, files } = parsed;
  if (version !== VERSION)
    throw new RecordingError(path, "version", `expected ${VERSION}, found ${JSON.stringify(version)}`);
  if (!Array.isArray(files)) throw new RecordingError(path, "files", "expected a list");
  return files.map((file: { name?: unknown; size?: unknown } | null, index) => {
    const { name, size } = file ?? {};
    if (typeof name !== "string" || typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
      throw new RecordingError(path, `files[${index}]`, "expected a name and a size");
    }
    return { name, size };
  });
}
