/** What an engine refuses while it replays a recording, as a fault of that recording. */
import { PagingError } from "../../errors.js";
import { RecordingError } from "./error.js";
import { scenarioFile } from "./parse-recording.js";
import type { Recording } from "./recording.js";

/**
 * Throws RecordingError where `error` says that an engine refuses what the recording asks of it: then the recording is
 * at fault, at `place`, and not the engine. Does nothing for other errors.
 */
export function refuseRecording(recording: Recording, place: string, error: unknown): void {
  if (!(error instanceof PagingError) || error instanceof RecordingError) return;
  throw new RecordingError(scenarioFile(recording.path), place, `${error.name}: ${error.message}`);
}
