/** What there is to say of a trace before one believes it. */
import type { KernelRange } from "./era.js";
import { Kind } from "./events/kinds.js";
import type { Model } from "./model/model.js";
import type { Summary } from "./model/summary.js";
import type { TraceWarning, WarningCode } from "./report.js";
import type { TraceSource } from "./source.js";
import type { TimeOrder } from "./time-order.js";

export interface WarningInput {
  readonly source: TraceSource;
  readonly model: Model;
  readonly summary: Summary;
  readonly kernel: KernelRange;
  readonly order: TimeOrder;
  /** `--since`. */
  readonly since: number | undefined;
  /** Objects that detectors did not follow, and findings that are left out. */
  readonly unfollowed: number;
  readonly more: number;
}

export function warningsOf(input: WarningInput): TraceWarning[] {
  const { source, model, summary, kernel, order, since, unfollowed, more } = input;
  const warnings: TraceWarning[] = [];
  const say = (code: WarningCode, message: string) => warnings.push({ code, message });
  for (const message of source.truncations) say("truncated", message);
  for (const message of source.damage) say("damaged", message);
  if (source.unreadable > 0) {
    const [first] = source.samples;
    const shown = first === undefined ? "" : `; the first is line ${first.line}: ${first.text.trim()}`;
    say("damaged", `${source.unreadable} lines are no events that are known${shown}`);
  }
  if (source.lostPlaces > 0) {
    const counted = source.lost > 0 ? `at least ${source.lost}` : "an unknown number of";
    say(
      "lost-events",
      `${counted} events were lost, at ${source.lostPlaces} places: pages and roots may be others than those shown`,
    );
  }
  if (source.overwritten > 0) {
    say(
      "lost-events",
      `the ${source.overwritten} oldest events were overwritten: the trace begins later than the recording`,
    );
  }
  const { announced, present } = source;
  if (announced !== undefined && present < announced) {
    say("fewer-events", `the header counts ${announced} events, the file has ${present}: it was filtered or cut off`);
  }
  const { budget } = model.vms;
  if (budget.untracked > 0)
    say("too-much", `${budget.untracked} events are of pages beyond the first ${budget.size}: those are not followed`);
  if (budget.unframed > 0) {
    say(
      "not-seen",
      `${budget.unframed} events have no frame number, as libtraceevent's plugin prints them: which pages were zapped and synced is not known (give the trace.dat file itself, or text of trace-cmd report -N)`,
    );
  }
  if (unfollowed > 0)
    say("too-much", `${unfollowed} events are of pages and addresses beyond those that findings look at`);
  if (more > 0) say("too-much", `${more} more findings of the same kinds are not shown`);
  if (order.back > 0) {
    say(
      "out-of-order",
      `${order.back} events are older than those before them, by up to ${order.farthest.toFixed(6)} s, the first in line ${order.line}: several traces in one file, or lines that are not in their order; what was known before is not used behind them`,
    );
  }
  if (kernel.contradictory === true) {
    say(
      "several-kernels",
      `no one kernel writes all of these events (${kernel.because.join("; ")}): traces of several kernels in one file? --kernel says which it is`,
    );
  }
  if (summary.from > summary.to && since !== undefined)
    say("not-seen", `no event is from --since ${since} on: the last is at ${order.last.toFixed(6)} s`);
  if (model.vms.several) severalVms(model, say);
  notSeen(model, say);
  return warnings;
}

function severalVms({ vms }: Model, say: (code: WarningCode, message: string) => void): void {
  const names = vms.all.map(({ name }) => name);
  const how = vms.guessed ? "told apart by the numbers of their threads" : "told apart by their processes";
  const rest =
    vms.unassigned > 0
      ? `; ${vms.unassigned} events of other threads (zaps, zap-alls) belong to one of them, but nothing says to which: record one machine to have them`
      : "";
  say(
    "several-vms",
    `${names.length} virtual machines, ${how}: ${names.slice(0, 4).join(", ")}${names.length > 4 ? ", ..." : ""}; tables below have the pages of all${rest}`,
  );
}

function notSeen(model: Model, say: (code: WarningCode, message: string) => void): void {
  if (model.tdpMmu) {
    say(
      "not-seen",
      "the TDP MMU traces no root that it finds again, and no end of one: whether its roots are rebuilt on switches cannot be seen",
    );
  }
  if (!model.entriesSeen)
    say(
      "not-seen",
      "there are no kvm_entry events: roots can hardly be told from other pages, nor when a fault ends (record the kvm events, too)",
    );
  const { seen } = model;
  if (model.entriesSeen && seen[Kind.kvm_page_fault] === 0)
    say("not-seen", "there are no kvm_page_fault events: faults are not counted");
  const mmu: number[] = [Kind.kvm_mmu_get_page, Kind.kvm_mmu_spte_requested];
  mmu.push(Kind.kvm_mmu_pagetable_walk, Kind.kvm_tdp_mmu_spte_changed);
  if (seen[Kind.kvm_page_fault] === 1 && mmu.every((kind) => seen[kind] === 0)) {
    say(
      "not-seen",
      "there are no kvmmmu events: what became of the faults cannot be told (record the kvmmmu events, too)",
    );
  }
}
