/** What there is to say of a trace before one believes it. */
import type { Model } from "./model/model.js";
import type { Summary } from "./model/summary.js";
import type { TraceWarning, WarningCode } from "./report.js";
import type { TraceSource } from "./source.js";

export interface WarningInput {
  readonly source: TraceSource;
  readonly model: Model;
  readonly summary: Summary;
  /** Objects that detectors did not follow, and findings that are left out. */
  readonly unfollowed: number;
  readonly more: number;
}

export function warningsOf({ source, model, summary, unfollowed, more }: WarningInput): TraceWarning[] {
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
  const { pages } = model;
  if (pages.untracked > 0)
    say("too-much", `${pages.untracked} events are of pages beyond the first ${pages.size}: those are not followed`);
  if (pages.unframed > 0) {
    say(
      "not-seen",
      `${pages.unframed} events have no frame number, as libtraceevent's plugin prints them: which pages were zapped and synced is not known (give the trace.dat file itself, or text of trace-cmd report -N)`,
    );
  }
  if (unfollowed > 0)
    say("too-much", `${unfollowed} events are of pages and addresses beyond those that findings look at`);
  if (more > 0) say("too-much", `${more} more findings of the same kinds are not shown`);
  const shared = [...model.sharedVcpus].filter(([, pids]) => pids.size > 1);
  if (shared.length > 0) {
    const [vcpu, pids] = shared[0]!;
    say(
      "several-vms",
      `vCPU ${vcpu} runs in ${pids.size} threads (${[...pids].slice(0, 4).join(", ")}): several virtual machines are mixed, and their pages with them; record one`,
    );
  }
  notSeen(model, summary, say);
  return warnings;
}

function notSeen(model: Model, summary: Summary, say: (code: WarningCode, message: string) => void): void {
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
  if (model.entriesSeen && summary.count("kvm_page_fault") === 0)
    say("not-seen", "there are no kvm_page_fault events: faults are not counted");
  const mmu =
    summary.count("kvm_mmu_get_page") +
    summary.count("kvm_mmu_spte_requested") +
    summary.count("kvm_mmu_pagetable_walk");
  if (summary.count("kvm_page_fault") > 0 && mmu + summary.count("kvm_tdp_mmu_spte_changed") === 0) {
    say(
      "not-seen",
      "there are no kvmmmu events: what became of the faults cannot be told (record the kvmmmu events, too)",
    );
  }
}
