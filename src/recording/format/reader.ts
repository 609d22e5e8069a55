/** Reading a recording from its folder: its files, inflated and parsed. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { readConfig } from "./config-reader.js";
import { RecordingError } from "./error.js";
import { readEvents } from "./event-reader.js";
import { JsonField } from "./json-field.js";
import { checkTotals, checkValueCount } from "./limits.js";
import { MAX_MEMORY, MAX_TEXT } from "./maxima.js";
import { type MemoryImage, readMemoryImage } from "./memory-image.js";
import type { CpuidEdit, Recording } from "./recording.js";
import { readPfnRuns, readSlot, readStep } from "./step-reader.js";

/** Bytes of an image's index: an address a page. */
const MAX_INDEX = (MAX_MEMORY / 4096) * 32;

/**
 * The bytes of a file of the recording, inflated where its name ends in .gz. Throws RecordingError where it is no
 * regular file, or has more bytes than `limit`.
 */
export function readBytes(file: string, limit = MAX_TEXT): Uint8Array {
  const bytes = readFile(file, file.endsWith(".gz") ? MAX_MEMORY : limit);
  if (!file.endsWith(".gz")) return bytes;
  let inflated: { buffer: Uint8Array; engine: { bytesWritten: number } };
  try {
    inflated = gunzipSync(bytes, { maxOutputLength: Math.max(limit, 1), info: true }) as unknown as typeof inflated;
  } catch (error) {
    const problem =
      (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE"
        ? `expected at most ${limit} bytes when inflated, found more`
        : `expected complete gzip data: ${error instanceof Error ? error.message : String(error)}`;
    throw new RecordingError(file, "", problem);
  }
  const end = inflated.engine.bytesWritten;
  // Node stops silently at a zero byte behind a member.
  if (bytes.subarray(end).some((byte) => byte !== 0)) {
    throw new RecordingError(
      file,
      `offset 0x${end.toString(16)}`,
      "expected the end of the gzip data, found more bytes",
    );
  }
  return inflated.buffer;
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

function readText(file: string, limit?: number): string {
  const bytes = readBytes(file, limit);
  checkValueCount(file, bytes);
  return new TextDecoder().decode(bytes);
}

function readImage(folder: string, name: string): MemoryImage {
  const index = join(folder, `${name}.idx.json`);
  return readMemoryImage(index, readText(index, MAX_INDEX), join(folder, `${name}.bin.gz`), readBytes);
}

function readCpuidEdits(field: JsonField): CpuidEdit[] {
  return field
    .array()
    .filter((item) => item.get("t").value === "cpuid_edit")
    .map((item) => ({
      fn: item.get("fn").int(),
      register: item.get("reg").int(),
      clear: item.get("clear").int(),
      set: item.get("set").int(),
    }));
}

/** Parses `text` as the scenario of a recording. */
export function parseScenario(file: string, text: string): Omit<Recording, "path" | "memoryBefore" | "memoryAfter"> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new RecordingError(file, "", `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const root = new JsonField(file, parsed);
  const unknownEvents = new Map<string, number>();
  const scenario = {
    config: readConfig(root.get("config")),
    cpuidEdits: root.get("extra").maybe(readCpuidEdits) ?? [],
    slots: root.get("slots").map(readSlot),
    pfnMap: readPfnRuns(root.get("pfnmap")),
    setupEvents: readEvents(root.get("setup_events"), unknownEvents),
    steps: root.get("steps").map((item) => readStep(item, unknownEvents)),
    unknownEvents,
  };
  checkTotals(file, scenario);
  return scenario;
}

/** The file of the recording in `folder` that says what happened. */
export function scenarioFile(folder: string): string {
  return join(folder, "scenario.json.gz");
}

/**
 * Reads the recording in `folder` (scenario.json.gz, guestmem_before and guestmem_after).
 * Throws RecordingError, which names file and field, where it is not one.
 */
export function readRecording(folder: string): Recording {
  const file = scenarioFile(folder);
  return {
    path: folder,
    ...parseScenario(file, readText(file)),
    memoryBefore: readImage(folder, "guestmem_before"),
    memoryAfter: readImage(folder, "guestmem_after"),
  };
}
