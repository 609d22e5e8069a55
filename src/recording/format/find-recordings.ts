/** Finding the recordings in a folder. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { RecordingError } from "./error.js";

const SCENARIO = "scenario.json.gz";

/** The recordings in `folder`: itself, or all below it, by name. Throws RecordingError where there is none. */
export function findRecordings(folder: string): string[] {
  if (!existsSync(folder)) throw new RecordingError(folder, "", "no such folder");
  if (!statSync(folder).isDirectory()) throw new RecordingError(folder, "", "expected a folder with a recording");
  const found: string[] = [];
  const visit = (path: string): void => {
    const entries = readdirSync(path, { withFileTypes: true });
    if (entries.some((entry) => entry.name === SCENARIO)) found.push(path);
    else for (const entry of entries.filter((item) => item.isDirectory())) visit(join(path, entry.name));
  };
  visit(folder);
  if (found.length === 0) throw new RecordingError(folder, "", `expected ${SCENARIO} here or in a folder below`);
  return found.sort();
}
