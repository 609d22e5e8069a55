/** A kernel's trace, moment by moment: what it has shown of pages until then, and the events of it. */

import type { BlobLike } from "x86-paging/dump";
import { analyseTrace, KINDS, type PageRow, type TraceInput, type TraceReport } from "x86-paging/trace";
import type { RunningTask } from "../tasks.js";
import type { Picture, PicturePage } from "./picture.js";

/** A page fault in a trace: where a step begins. */
export interface Moment {
  readonly time: number;
  readonly text: string;
}

/** Steps that are offered: the first faults of a trace. */
export const MOST_MOMENTS = 2000;
/** Events of a step that are shown. */
const MOST_EVENTS = 400;

const FAULT = KINDS.indexOf("kvm_page_fault");

/** What `analyseTrace` reads, of a file that may lie on a server. */
function inputOf(file: BlobLike): TraceInput {
  if (file instanceof Blob) return file;
  return {
    size: file.size,
    read: async (offset, length) =>
      new Uint8Array(await file.slice(offset, Math.min(offset + length, file.size)).arrayBuffer()),
  };
}

/** The report, and the faults that steps begin with. */
export async function readTrace(
  file: BlobLike,
  name: string,
  task: RunningTask,
): Promise<{ readonly report: TraceReport; readonly moments: readonly Moment[]; readonly faults: number }> {
  const moments: Moment[] = [];
  let faults = 0;
  const { report } = await analyseTrace(stoppable(inputOf(file), task, file.size), {
    name,
    onEvent: (record) => {
      if (record.kind !== FAULT) return;
      faults++;
      if (moments.length < MOST_MOMENTS) moments.push({ time: record.time, text: bodyOf(record.text) });
    },
  });
  return { report, moments, faults };
}

/** An event without what stands before its name: task, processor, flags, time. */
function bodyOf(text: string): string {
  const at = text.indexOf(KINDS[FAULT]!);
  return at < 0 ? text : text.slice(at);
}

/** Pages as they are known before the next moment, and the events from this one on. */
export async function traceAt(
  file: BlobLike,
  from: number,
  until: number,
): Promise<{ readonly picture: Picture; readonly events: readonly string[] }> {
  const events: string[] = [];
  let beyond = 0;
  const { pages } = await analyseTrace(inputOf(file), {
    findings: false,
    until,
    onEvent: (record) => {
      if (record.time < from) return;
      if (events.length < MOST_EVENTS) events.push(record.text);
      else beyond++;
    },
  });
  if (beyond > 0) events.push(`and ${beyond} more`);
  return { picture: { pages: picturePages(pages()), roots: [], tables: [] }, events };
}

/** Pieces of the input, between which the reading can be cancelled. */
function stoppable(input: TraceInput, { signal, turn }: RunningTask, size: number): TraceInput {
  const isFile = (one: TraceInput): one is Extract<TraceInput, { read: unknown }> =>
    typeof one === "object" && "read" in one;
  if (!(input instanceof Blob) && !isFile(input)) return input;
  const read = isFile(input)
    ? input.read.bind(input)
    : async (offset: number, length: number) =>
        new Uint8Array(await input.slice(offset, offset + length).arrayBuffer());
  return {
    size,
    async read(offset, length) {
      await turn(offset / Math.max(1, size));
      signal.throwIfAborted();
      return read(offset, length);
    },
  };
}

const keyOf = ({ gfn, role, vm = "" }: { gfn: number; role: string; vm?: string | undefined }) =>
  `${vm} ${gfn} ${role}`;

/** Pages that are there, with the links that were seen. */
function picturePages(rows: readonly PageRow[]): PicturePage[] {
  const live = rows.filter((row) => row.live > 0);
  const below = new Map<string, string[]>();
  for (const row of live) {
    if (row.parent === undefined) continue;
    const parent = keyOf({ ...row.parent, vm: row.vm });
    below.set(parent, [...(below.get(parent) ?? []), keyOf(row)]);
  }
  const pages = live.map((row): PicturePage => {
    const level = Number(/^l(\d)/.exec(row.role)?.[1] ?? 1);
    const links = below.get(keyOf(row)) ?? [];
    return {
      id: keyOf(row),
      gfn: BigInt(row.gfn),
      role: row.words?.[0] ?? -1,
      layout: "5.19",
      level,
      direct: /\bdirect\b/.test(row.role),
      unsync: row.unsync > 0,
      rootCount: row.loads > 0 ? 1 : 0,
      tdp: false,
      fields: {
        level: `${level}`,
        ...(/\bq(\d)/.exec(row.role)?.[1] !== "0" && { quadrant: /\bq(\d)/.exec(row.role)?.[1] ?? "0" }),
        access: /\b[-r]?[-w][-u][-x](?=\s|$)/.exec(row.role)?.[0] ?? "",
      },
      roleText: row.role,
      entries: links.map((to, index) => ({ index, spte: 0n, to })),
      more: 0,
    };
  });
  return pages.sort((a, b) => b.level - a.level || Number(a.gfn - b.gfn));
}
