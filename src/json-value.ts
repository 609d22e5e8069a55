/** Values of JSON documents in messages. */

const LONGEST = 60;

/**
 * A value as a message shows it: short, and of arrays and objects no more than what they are, because what is in them
 * may be nested deeper than a stack is.
 */
export function describeJson(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value !== "string") return String(value);
  const shown = JSON.stringify(value.slice(0, LONGEST));
  return value.length > LONGEST || shown.length > LONGEST ? `${shown.slice(0, LONGEST)}...` : shown;
}
