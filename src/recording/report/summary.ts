/** Figures over many replays, as JSON and as lines for people. */
import { IGNORED_FIELDS, RULES, RuleCounts } from "../compare/rules.js";
import type { ReplayReport } from "../replay/replayer.js";

/** Figures over many replays. */
export class ReplaySummary {
  recordings = 0;
  /** Those of them that could not be replayed. */
  unreadable = 0;
  passed = 0;
  steps = 0;
  differences = 0;
  readonly events = new Map<string, number>();
  readonly notCompared = new Map<string, number>();
  readonly results = new Map<string, number>();
  readonly unknownEvents = new Map<string, number>();
  readonly rules = new RuleCounts();

  /** Counts one recording's report. */
  add(report: ReplayReport): void {
    this.recordings++;
    if (isPass(report)) this.passed++;
    this.steps += report.steps;
    this.differences += report.differences.length;
    addAll(this.events, report.events);
    addAll(this.notCompared, report.notCompared);
    addAll(this.results, report.results);
    addAll(this.unknownEvents, report.recording.unknownEvents);
    this.rules.add(report.rules);
  }

  /** A recording that is at fault itself. */
  addUnreadable(): void {
    this.recordings++;
    this.unreadable++;
  }

  /** Those that did not pass, for whatever reason. */
  get failed(): number {
    return this.recordings - this.passed;
  }

  /** The whole as a plain object. */
  toJson(): Record<string, unknown> {
    return {
      recordings: this.recordings,
      passed: this.passed,
      failed: this.failed,
      unreadable: this.unreadable,
      steps: this.steps,
      differences: this.differences,
      events: Object.fromEntries(sorted(this.events)),
      results: Object.fromEntries(sorted(this.results)),
      notCompared: Object.fromEntries(sorted(this.notCompared)),
      unknownEvents: Object.fromEntries(sorted(this.unknownEvents)),
      rules: Object.fromEntries(this.rules.entries()),
      ignoredFields: IGNORED_FIELDS,
    };
  }

  /** Lines for people. */
  *lines(): IterableIterator<string> {
    yield `recordings   ${this.recordings}`;
    yield `steps        ${this.steps}`;
    if (this.unreadable > 0) yield `unreadable   ${this.unreadable}`;
    yield `differences  ${this.differences}`;
    yield "";
    yield "events compared";
    for (const [kind, count] of sorted(this.events)) yield `  ${String(count).padStart(8)}  ${kind}`;
    yield* section("results compared", sorted(this.results));
    yield* section("events not compared (the engine does not emit them)", sorted(this.notCompared));
    yield* section("events of unknown kinds, left out", sorted(this.unknownEvents));
    yield "";
    yield "differences allowed, by rule";
    for (const [rule, count] of this.rules.entries()) yield `  ${String(count).padStart(8)}  ${rule}: ${RULES[rule]}`;
    yield "";
    yield "fields ignored";
    for (const [field, reason] of Object.entries(IGNORED_FIELDS)) yield `  ${field}: ${reason}`;
  }
}

/** Whether a replay found no difference and lost nothing. */
export function isPass(report: ReplayReport): boolean {
  return report.differences.length === 0 && report.failure === undefined;
}

function* section(title: string, counts: readonly (readonly [string, number])[]): IterableIterator<string> {
  if (counts.length === 0) return;
  yield "";
  yield title;
  for (const [kind, count] of counts) yield `  ${String(count).padStart(8)}  ${kind}`;
}

function addAll(to: Map<string, number>, from: ReadonlyMap<string, number>): void {
  for (const [kind, count] of from) to.set(kind, (to.get(kind) ?? 0) + count);
}

function sorted(counts: ReadonlyMap<string, number>): (readonly [string, number])[] {
  return [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
}
