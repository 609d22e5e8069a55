/** A row of a listing of mappings, as programs read it: JSON and comma-separated values. */
import type { Rights } from "../api.js";
import { JSON_VERSION } from "../json-text.js";
import type { LeafAttribute } from "./attributes.js";
import { rightsLetters } from "./leaves.js";

/** One row: mappings that follow each other. */
export interface MapsRow {
  readonly va: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly rights: Rights;
  /** Number of pages. */
  readonly pages: number;
  /** Of rows that are contiguous in physical memory: where they lie, and the size of their pages. */
  readonly physical: { readonly pa: bigint; readonly pageSize: bigint } | undefined;
  /** Of a row of one page: its entry. */
  readonly entry: bigint | undefined;
  /** Bytes of what is mapped that are not in the dump, by why (`Dump.presence`). */
  readonly lacking: ReadonlyMap<"excluded" | "cut" | "absent", bigint>;
  /** The attributes that are asked for, in their order. */
  readonly attributes: readonly number[];
  /** What the system has there, where it is known. */
  readonly region: string | undefined;
  /** Of listings of several spaces: those that it is in. */
  readonly places?: readonly string[];
}

/** Writes the rows of one listing. */
export interface RowWriter {
  /** The line above the first row; undefined where there is none. */
  readonly header: string | undefined;
  /** A row as a line, without its end. */
  line(row: MapsRow): string;
}

/** What the columns of a listing are. */
export interface MapsCsvOptions {
  /** The attributes that rows have. Default: none. */
  readonly attributes?: readonly LeafAttribute[];
  /** Rows are contiguous in physical memory. Default true. */
  readonly physical?: boolean;
  /** Rows say which spaces they are in. Default false. */
  readonly places?: boolean;
}

/**
 * A row as `x86-paging maps --json` writes it: one JSON object (docs/json.md). It is put together here, as there may be millions:
 * JSON.stringify takes several times as long for an object that is made for one line.
 */
export function mapsJsonLine(row: MapsRow, attributes: readonly LeafAttribute[] = []): string {
  const { va, size, rights, pages, physical, entry, lacking, region, places } = row;
  let text = `{"version":${JSON_VERSION},"va":"${hex(va)}","size":${Number(size)}`;
  if (physical === undefined) text += `,"pages":${pages}`;
  else if (entry === undefined) text += `,"pageSize":${Number(physical.pageSize)},"pa":"${hex(physical.pa)}"`;
  else text += `,"pa":"${hex(physical.pa)}","entry":"${hex(entry)}"`;
  text += `,"user":${rights.user},"writable":${rights.write},"executable":${rights.execute}`;
  if (physical === undefined) {
    const absent = [...lacking.values()].reduce((sum, bytes) => sum + bytes, 0n);
    text += `,"absentBytes":${Number(absent)}`;
  } else if (lacking.size === 0) text += `,"absent":false,"presence":"held"`;
  else text += `,"absent":true,"presence":"${lacking.keys().next().value!}"`;
  for (const [index, name] of attributes.entries()) {
    // Asked for twice, it is still one member.
    if (attributes.indexOf(name) === index) text += `,"${name}":${row.attributes[index]!}`;
  }
  if (region !== undefined) text += `,"region":${JSON.stringify(region)}`;
  if (places !== undefined) text += `,"spaces":${JSON.stringify(places)}`;
  return `${text}}`;
}

/** Rows as `x86-paging maps --csv` writes them: comma-separated values, addresses in hexadecimal, with a line of names. */
export function mapsCsvWriter({ attributes = [], physical = true, places = false }: MapsCsvOptions = {}): RowWriter {
  const names = [
    ...["start", "end", "size", "rights"],
    ...(physical ? ["page_size", "physical", "presence"] : ["pages", "absent_bytes"]),
    ...attributes,
    "region",
    ...(places ? ["spaces"] : []),
  ];
  return {
    header: names.join(","),
    line(row) {
      const absent = [...row.lacking.values()].reduce((sum, bytes) => sum + bytes, 0n);
      const fields = [
        ...[hex(row.va), hex(BigInt.asUintN(64, row.va + row.size)), row.size, rightsLetters(row.rights)],
        ...(row.physical === undefined
          ? [row.pages, absent]
          : [row.physical.pageSize, hex(row.physical.pa), [...row.lacking.keys()][0] ?? "held"]),
        ...row.attributes,
        row.region ?? "",
        ...(row.places === undefined ? [] : [row.places.join(" ")]),
      ];
      return fields.join(",");
    },
  };
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
