import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { readConfig } from "./config-reader.js";
import { RecordingError } from "./error.js";
import { readEvents } from "./event-reader.js";
import { JsonField } from "./json-field.js";
import { type MemoryImage, readMemoryImage } from "./memory-image.js";
import type { CpuidEdit, Recording } from "./recording.js";
import { readPfnRuns, readSlot, readStep } from "./step-reader.js";

/** The bytes of a file of the recording, inflated where its name ends in .gz. */
export function readBytes(file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new RecordingError(file, "", `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!file.endsWith(".gz")) return bytes;
  try {
    return gunzipSync(bytes);
  } catch (error) {
    throw new RecordingError(
      file,
      "",
      `expected complete gzip data: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function readText(file: string): string {
  return new TextDecoder().decode(readBytes(file));
}

function readImage(folder: string, name: string): MemoryImage {
  const index = join(folder, `${name}.idx.json`);
  const bytes = join(folder, `${name}.bin.gz`);
  return readMemoryImage(index, readText(index), bytes, readBytes(bytes));
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
  return {
    config: readConfig(root.get("config")),
    cpuidEdits: root.get("extra").maybe(readCpuidEdits) ?? [],
    slots: root.get("slots").map(readSlot),
    pfnMap: readPfnRuns(root.get("pfnmap")),
    setupEvents: readEvents(root.get("setup_events"), unknownEvents),
    steps: root.get("steps").map((item) => readStep(item, unknownEvents)),
    unknownEvents,
  };
}

/**
 * Reads the recording in `folder` (scenario.json.gz, guestmem_before and guestmem_after).
 * Throws RecordingError, which names file and field, where it is not one.
 */
export function readRecording(folder: string): Recording {
  const file = join(folder, "scenario.json.gz");
  return {
    path: folder,
    ...parseScenario(file, readText(file)),
    memoryBefore: readImage(folder, "guestmem_before"),
    memoryAfter: readImage(folder, "guestmem_after"),
  };
}
