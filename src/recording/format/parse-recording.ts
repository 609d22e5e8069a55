/** Makes a recording of its files' contents, wherever those come from. */
import { readConfig } from "./config-reader.js";
import { RecordingError } from "./error.js";
import { readEvents } from "./event-reader.js";
import { JsonField } from "./json-field.js";
import { checkTotals, checkValueCount } from "./limits.js";
import { MAX_MEMORY } from "./maxima.js";
import { type MemoryImage, readMemoryImage } from "./memory-image.js";
import type { CpuidEdit, Recording } from "./recording.js";
import { readPfnRuns, readSlot, readStep } from "./step-reader.js";

/** Bytes of an image's index: an address a page. */
const MAX_INDEX = (MAX_MEMORY / 4096) * 32;

/** The inflated bytes of a file by its path, at most `limit` of them. Throws RecordingError where there are more, or none. */
export type ReadFile = (file: string, limit?: number) => Uint8Array;

/** The file of the recording at `path`, a folder or a packed file, that says what happened. */
export function scenarioFile(path: string): string {
  return fileOf(path, "scenario.json.gz");
}

function fileOf(path: string, name: string): string {
  return path.endsWith("/") ? path + name : `${path}/${name}`;
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

/** The recording whose files `read` has. Throws RecordingError, which names file and field, where it is not one. */
export function recordingOf(path: string, read: ReadFile): Recording {
  const readText = (file: string, limit?: number): string => {
    const bytes = read(file, limit);
    checkValueCount(file, bytes);
    return new TextDecoder().decode(bytes);
  };
  const readImage = (name: string): MemoryImage => {
    const index = fileOf(path, `${name}.idx.json`);
    return readMemoryImage(index, readText(index, MAX_INDEX), fileOf(path, `${name}.bin.gz`), read);
  };
  const file = scenarioFile(path);
  return {
    path,
    ...parseScenario(file, readText(file)),
    memoryBefore: readImage("guestmem_before"),
    memoryAfter: readImage("guestmem_after"),
  };
}
