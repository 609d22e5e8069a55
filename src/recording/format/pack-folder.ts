/** Packs the recording in a folder, for Node. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { RecordingError } from "./error.js";
import { MAX_MEMORY } from "./maxima.js";
import { PACKED_NAMES, packFiles } from "./pack.js";
import { isPackedFile, readRecording } from "./reader.js";

/** The one file of the recording in `folder`. Throws RecordingError where there is none, or where it cannot be read. */
export function packRecording(folder: string): Uint8Array<ArrayBuffer> {
  if (isPackedFile(folder))
    throw new RecordingError(folder, "", "expected the folder of a recording, found one that is packed");
  // What is packed is a recording.
  readRecording(folder);
  const files = new Map<string, Uint8Array>();
  for (const name of PACKED_NAMES) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    const { size } = statSync(path);
    if (size > MAX_MEMORY) throw new RecordingError(path, "", `expected at most ${MAX_MEMORY} bytes, found ${size}`);
    files.set(name, readFileSync(path));
  }
  return packFiles(files);
}
