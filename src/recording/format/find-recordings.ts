/** Finding the recordings in a folder. */
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import { RecordingError } from "./error.js";
import { PACKED_SUFFIX } from "./pack.js";
import { isPackedFile } from "./reader.js";

const SCENARIO = "scenario.json.gz";

/**
 * The recordings in `folder`: itself, or all below it, by name, packed ones too; links to folders are followed. A packed
 * recording is itself one. Throws RecordingError where
 * there is none.
 */
export function findRecordings(folder: string): string[] {
  if (!existsSync(folder)) throw new RecordingError(folder, "", "no such folder");
  if (isPackedFile(folder)) return [folder];
  if (!statSync(folder).isDirectory()) throw new RecordingError(folder, "", "expected a folder with a recording");
  const found: string[] = [];
  const visit = (path: string, above: readonly string[]): void => {
    // A link to a folder above would lead down again without end.
    const real = realpathSync(path);
    if (above.includes(real)) return;
    const names = readdirSync(path);
    if (names.includes(SCENARIO)) found.push(path);
    else {
      for (const name of names.filter((item) => isFolder(join(path, item)))) visit(join(path, name), [...above, real]);
      found.push(
        ...names
          .filter((name) => name.endsWith(PACKED_SUFFIX))
          .map((name) => join(path, name))
          .filter(isPackedFile),
      );
    }
  };
  visit(folder, []);
  if (found.length === 0) throw new RecordingError(folder, "", `expected ${SCENARIO} here or in a folder below`);
  return found.sort();
}

/** A folder or a link to one; a link that leads nowhere is neither. */
function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
