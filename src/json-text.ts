/** JSON for programs: objects, one a line, each with the version of the format (docs/json.md). */

/** Raised where a member goes or changes its meaning; members may be added without. */
export const JSON_VERSION = 1;

/** One object as a line. */
export function jsonText(value: object): string {
  return JSON.stringify({ version: JSON_VERSION, ...value });
}
