/** The list of ranges as a file, as `x86-paging maps` writes it. */
import { type MapsRow, mapsCsvWriter, mapsJsonLine, ScanRights } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import type { Row } from "./answers.js";
import type { Space } from "./space.js";

/** Lines that become one piece of the file. */
const LINES = 4096;

export type ExportFormat = "csv" | "json";

const TYPES = { csv: "text/csv", json: "application/x-ndjson" } as const;

/** The ranges that are shown, in their order. */
export async function exportOf(space: Space, format: ExportFormat, task: RunningTask): Promise<Blob> {
  const writer = mapsCsvWriter();
  const line = format === "csv" ? writer.line : mapsJsonLine;
  const pieces: string[] = format === "csv" ? [`${writer.header}\n`] : [];
  for (let first = 0; first < space.shown; first += LINES) {
    const lines: string[] = [];
    for (let place = first; place < Math.min(space.shown, first + LINES); place++)
      lines.push(line(rowOf(space.row(place, true))));
    pieces.push(`${lines.join("\n")}\n`);
    await task.turn(first / space.shown);
  }
  return new Blob(pieces, { type: TYPES[format] });
}

function rowOf({ va, pa, size, pageSize, rights, presence, region }: Row): MapsRow {
  const execute = (rights & ScanRights.Execute) !== 0;
  return {
    va,
    size,
    rights: {
      read: true,
      write: (rights & ScanRights.Write) !== 0,
      user: (rights & ScanRights.User) !== 0,
      execute,
      userExecute: execute,
    },
    pages: Number(size / pageSize),
    physical: { pa, pageSize },
    entry: undefined,
    lacking: presence === "held" ? new Map() : new Map([[presence as "absent", size]]),
    attributes: [],
    region,
  };
}
