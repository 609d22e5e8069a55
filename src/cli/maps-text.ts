/** Rows of listings of mappings as lines for people. */

import { InvalidArgumentError } from "commander";
import { LEAF_ATTRIBUTES, type LeafAttribute } from "../maps/attributes.js";
import { pageSizeName, rightsLetters } from "../maps/leaves.js";
import type { MapsRow, RowWriter } from "../maps/rows.js";
import type { Styler } from "./style.js";
import { hex16, sizeText } from "./values.js";

/** Places of a row that are shown to people. */
const FEW_PLACES = 8;

export interface RowStyle {
  readonly style: Styler;
  /** The attributes that rows have. */
  readonly attributes: readonly LeafAttribute[];
  /** Rows are contiguous in physical memory. */
  readonly physical: boolean;
}

/** A table for people. */
export function tableWriter({ style, attributes, physical }: RowStyle): RowWriter {
  const kind = physical ? `page rights ${"physical".padEnd(16)}` : "  pages rights";
  const names = attributes.map((name) => ` ${name}`).join("");
  const header = `${"start".padEnd(16)} ${"end".padEnd(16)} ${"size".padStart(10)} ${kind}${names}`;
  const rights = (row: MapsRow) => {
    const letters = rightsLetters(row.rights);
    const { user, write, execute } = row.rights;
    return write && execute ? style("red", letters) : user ? style("green", letters) : letters;
  };
  return {
    header: style("dim", header),
    line(row) {
      const end = BigInt.asUintN(64, row.va + row.size);
      const where = `${hex16(row.va)} ${hex16(end)} ${sizeText(row.size).padStart(10)}`;
      const what =
        row.physical === undefined
          ? `${`${row.pages}`.padStart(7)} ${rights(row)}   `
          : `${pageSizeName(row.physical.pageSize).padStart(4)} ${rights(row)}    ${hex16(row.physical.pa)}`;
      const columns = row.attributes.map((value, index) => ` ${`${value}`.padStart(attributes[index]!.length)}`);
      const rest = [lackingText(row), row.region, placesText(row.places)].filter((one) => one !== undefined);
      const more = rest.map((text) => ` ${style("dim", text)}`).join("");
      return `${where} ${what}${columns.join("")}${more}`.trimEnd();
    },
  };
}

function lackingText({ lacking, size }: MapsRow): string | undefined {
  if (lacking.size === 0) return undefined;
  const texts = [...lacking].map(([why, bytes]) => (bytes === size ? why : `${sizeText(bytes)} ${why}`));
  return texts.length > 0 ? texts.join(", ") : undefined;
}

function placesText(places: readonly string[] | undefined): string | undefined {
  if (places === undefined) return undefined;
  const more = places.length > FEW_PLACES ? ` and ${places.length - FEW_PLACES} more` : "";
  return `in ${places.slice(0, FEW_PLACES).join(" ")}${more}`;
}

/** `va pa size uwx [why]`, with the attributes behind it as name=value. */
export function leafText(row: MapsRow, attributes: readonly LeafAttribute[]): string {
  const { pa, pageSize } = row.physical!;
  const columns = row.attributes.map((value, index) => ` ${attributes[index]}=${value}`);
  const lacking = [...row.lacking.keys()].map((why) => ` ${why}`);
  const size = pageSizeName(pageSize);
  return `${hex16(row.va)} ${pa.toString(16)} ${size} ${rightsLetters(row.rights)}${lacking.join("")}${columns.join("")}`;
}

/** For commander: names of attributes, with commas between them. */
export function attributesOf(text: string): LeafAttribute[] {
  return text.split(",").map((part) => {
    const found = LEAF_ATTRIBUTES.find((one) => one === part.trim().toLowerCase());
    if (found === undefined) throw new InvalidArgumentError(`expected ${LEAF_ATTRIBUTES.join(", ")}, found ${part}.`);
    return found;
  });
}
