/** The fields of a decoded word as lines and as JSON. */
import { placeOf, type WordField } from "../decode/fields.js";
import type { Styler } from "./style.js";
import { hex } from "./values.js";

const NAME_WIDTH = 22;

/** Name and place, meaning and value: `  MEMTYPE 5:3  memory type = 6, write back`. */
export function fieldLine(field: WordField, style: Styler): string {
  const label = `${field.name} ${placeOf(field)}`.padEnd(NAME_WIDTH);
  const value = field.width === 1 && field.value === 1n ? "" : ` = ${hex(field.value)}`;
  const colour = field.use === "reserved" ? "red" : field.use === "ignored" ? "dim" : "cyan";
  return `  ${style(colour, label)} ${field.meaning}${value}${field.text === undefined ? "" : `, ${field.text}`}`;
}

/** What a processor refuses. */
export function problemLine(problem: string, style: Styler): string {
  return `  ${style("red", "refused".padEnd(NAME_WIDTH))} ${problem}`;
}

/** One field for programs: the place by its lowest bit and width, the value as a hexadecimal string. */
export function fieldJson(field: WordField) {
  const { name, low, width, value, use, meaning, text } = field;
  return { name, low, width, value: hex(value), use, meaning, ...(text === undefined ? {} : { text }) };
}
