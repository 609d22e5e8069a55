/**
 * Recordings' traces beside their states: the kernel's own text, of which only what a stock kernel prints is taken, and the
 * shadow pages that the recording saw after each step.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { layoutOf } from "../../src/role/index.js";
import { TraceAnalysis } from "../../src/trace/analysis.js";
import { DIRECT, pageRole, roleText, tracedRole } from "../../src/trace/events/role.js";
import type { Page } from "../../src/trace/model/pages.js";
import { TextReader } from "../../src/trace/text/text-reader.js";

/** Both recorded kernels have this layout. */
const LAYOUT = layoutOf("5.19");

interface Snapshot {
  readonly sps: readonly {
    readonly role: string | number;
    readonly gfn: string | number;
    readonly unsync: number;
    readonly spt: string;
  }[];
  readonly root_mmu?: { readonly root_hpa: string };
  readonly guest_mmu?: { readonly root_hpa: string };
}

export interface Recorded {
  readonly name: string;
  readonly tdpMmu: boolean;
  /** State after each step, by its number. */
  readonly snapshots: ReadonlyMap<number, Snapshot>;
  /** Events of the system kvmmmu, by kind. */
  readonly events: Readonly<Record<string, number>>;
  /** Whole text. */
  readonly text: string;
}

const STOCK =
  /^#|: (?:kvm_(?!set_cr\d|mmu_reset)\w+|fast_page_fault|mark_mmio_spte|handle_mmio_page_fault|check_mmio_spte): /;

/** Without what only the recordings' own probes print. */
export function stockText(text: string): string {
  return `${text
    .split("\n")
    .filter((line) => STOCK.test(line) && !/\+0x[0-9a-f]+\/0x/.test(line))
    .join("\n")}\n`;
}

export function readRecorded(folder: string): Recorded {
  const scenario = JSON.parse(gunzipSync(readFileSync(join(folder, "scenario.json.gz"))).toString()) as {
    config: { tdp_mmu: number };
    setup_events: { ev: string; sys: string }[];
    steps: { n: number; snap: Snapshot; events: { ev: string; sys: string }[] }[];
  };
  const events: Record<string, number> = {};
  for (const { ev, sys } of [...scenario.setup_events, ...scenario.steps.flatMap((step) => step.events)]) {
    if (sys === "kvmmmu") events[ev] = (events[ev] ?? 0) + 1;
  }
  return {
    name: folder,
    tdpMmu: Boolean(scenario.config.tdp_mmu),
    events,
    snapshots: new Map(scenario.steps.map(({ n, snap }) => [n, snap])),
    text: gunzipSync(readFileSync(join(folder, "trace.txt.gz"))).toString("latin1"),
  };
}

/** What was compared, and what differs. */
export interface Comparison {
  steps: number;
  pages: number;
  /** Roots in use that are pages, each of which must have been seen to be loaded. */
  roots: number;
  /** Ends of TDP roots, which no event tells of. */
  unseenRoots: number;
  readonly differences: string[];
}

/** Feeds the trace step by step, and compares the reconstructed pages with the recorded ones after each. */
export function compareSteps({ text, snapshots, tdpMmu }: Recorded): Comparison {
  const analysis = new TraceAnalysis();
  const reader = new TextReader(analysis.parser, (record) => analysis.take(record));
  const found: Comparison = { steps: 0, pages: 0, roots: 0, unseenRoots: 0, differences: [] };
  let step = 0;
  const compare = () => {
    const snapshot = snapshots.get(step);
    if (snapshot === undefined) return;
    found.steps++;
    comparePages(analysis, snapshot, tdpMmu, step, found);
  };
  for (const line of text.split("\n")) {
    const mark = /tracing_mark_write: OP (\d+) /.exec(line);
    if (mark !== null) {
      compare();
      step = Number(mark[1]);
    } else reader.push(new TextEncoder().encode(stockText(line)));
  }
  compare();
  return found;
}

function comparePages(
  analysis: TraceAnalysis,
  { sps, root_mmu, guest_mmu }: Snapshot,
  tdpMmu: boolean,
  step: number,
  found: Comparison,
): void {
  const wanted = new Map<string, number>();
  const add = (key: string, count: number) => wanted.set(key, (wanted.get(key) ?? 0) + count);
  const roots = new Set<string>();
  for (const { role, gfn, unsync } of sps) {
    const traced = pageRole(tracedRole(LAYOUT, Number(role)));
    add(keyOf(Number(BigInt(gfn)), traced, Boolean(unsync)), 1);
  }
  const isTdpRoot = (page: Page) => tdpMmu && (page.role & DIRECT) !== 0 && page.level >= 4 && page.gfn === 0;
  for (const page of analysis.model.pages()) {
    for (let i = 0; i < page.live; i++) {
      const key = keyOf(page.gfn, page.role, i < page.unsync);
      if (isTdpRoot(page)) roots.add(key);
      add(key, -1);
    }
  }
  found.pages += sps.length;
  for (const mmu of [root_mmu, guest_mmu]) {
    const root = sps.find(({ spt }) => mmu !== undefined && BigInt(spt) === BigInt(mmu.root_hpa));
    if (root === undefined) continue;
    found.roots++;
    const traced = tracedRole(LAYOUT, Number(root.role));
    const page = analysis.model.vms.all[0]!.pages.known(Number(BigInt(root.gfn)), traced);
    if (page === undefined || page.loads === 0) {
      found.differences.push(
        `step ${step}: the root ${keyOf(Number(BigInt(root.gfn)), traced, false)} was never loaded`,
      );
    }
  }
  for (const [key, count] of wanted) {
    if (count === 0) continue;
    // The end of a TDP root is not traced, nor that there are two for a while.
    if (roots.has(key)) found.unseenRoots++;
    else found.differences.push(`step ${step}: ${key}: ${count > 0 ? `${count} missing` : `${-count} too many`}`);
  }
}

function keyOf(gfn: number, role: number, unsync: boolean): string {
  return `${gfn.toString(16)} ${roleText(role)} ${unsync ? "unsync" : "sync"}`;
}
