/** The recordings among the fixtures. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readRecording } from "../../src/recording/format/reader.js";
import type { Recording } from "../../src/recording/format/recording.js";

export const RECORDINGS = fileURLToPath(new URL("../fixtures/recordings", import.meta.url));

/** `scenario/cfg` of every recording among the fixtures. */
export const NAMES: readonly string[] = readdirSync(RECORDINGS).flatMap((scenario) =>
  readdirSync(join(RECORDINGS, scenario)).map((cfg) => `${scenario}/${cfg}`),
);

const cache = new Map<string, Recording>();

export function recordingOf(name: string): Recording {
  let recording = cache.get(name);
  if (recording === undefined) {
    recording = readRecording(join(RECORDINGS, name));
    cache.set(name, recording);
  }
  return recording;
}
