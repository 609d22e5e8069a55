/** Comparing two recordings of one scenario: of two kernels, or of two configurations of a host. */
import { diffArrays } from "diff";
import type { Recording, Snapshot, Step } from "../format/recording.js";
import { type StepLines, type StepLinesOptions, StepText } from "./step-lines.js";

/** One line of the comparison: of the first recording alone, or of the second. */
export interface LineDifference {
  readonly side: "a" | "b";
  readonly text: string;
}

/** A step that differs. */
export interface StepDiff {
  readonly op: string;
  /** Its number in each recording; undefined: the step is not there. */
  readonly a: number | undefined;
  readonly b: number | undefined;
  readonly answers: readonly LineDifference[];
  readonly events: readonly LineDifference[];
  /** What became different with this step: what differed after the step before is left out. */
  readonly state: readonly LineDifference[];
}

/** How two recordings of one scenario differ, step by step. */
export interface RecordingDiff {
  /** Steps that both have. */
  readonly steps: number;
  readonly differing: readonly StepDiff[];
}

/** Compares `a` with `b`, step by step. Steps are matched by what the guest or the VMM did. */
export function diffRecordings(a: Recording, b: Recording, options: StepLinesOptions = {}): RecordingDiff {
  const left = new Side(a, options);
  const right = new Side(b, options);
  const differing: StepDiff[] = [];
  let steps = 0;
  let known = new Set<string>();
  for (const part of diffArrays(a.steps.map(doing), b.steps.map(doing))) {
    for (const _ of part.value) {
      if (part.removed) differing.push(alone("a", left.next()));
      else if (part.added) differing.push(alone("b", right.next()));
      else {
        const [found, state] = compare(left.next(), right.next(), known);
        known = state;
        steps++;
        if (found.answers.length + found.events.length + found.state.length > 0) differing.push(found);
      }
    }
  }
  return { steps, differing };
}

/** One recording, step after step. */
class Side {
  readonly #text: StepText;
  readonly #steps: readonly Step[];
  #at = 0;
  #before: Snapshot | undefined;

  constructor(recording: Recording, options: StepLinesOptions) {
    this.#text = new StepText(recording.config, options);
    this.#steps = recording.steps;
  }

  next(): { readonly step: Step; readonly lines: StepLines } {
    const step = this.#steps[this.#at++]!;
    const lines = this.#text.lines(step, this.#before);
    this.#before = step.snapshot;
    return { step, lines };
  }
}

type Shown = ReturnType<Side["next"]>;

/** What names a step in any recording of its scenario. */
function doing(step: Step): string {
  const { op, inputs } = step;
  const what = step.kind === "guest" ? [step.vcpu, step.gva, step.value, step.size ?? ""].join(" ") : "";
  const asked = inputs.map(({ kind }) => kind).join(" ");
  return `${step.kind} ${op} ${what} ${asked}`;
}

function alone(side: "a" | "b", { step }: Shown): StepDiff {
  const none = { answers: [], events: [], state: [] };
  return { op: step.op, a: side === "a" ? step.n : undefined, b: side === "b" ? step.n : undefined, ...none };
}

function compare(a: Shown, b: Shown, known: ReadonlySet<string>): [StepDiff, Set<string>] {
  const differs = [...surplus("a", a.lines.state, b.lines.state), ...surplus("b", b.lines.state, a.lines.state)];
  const state = differs.filter((one) => !known.has(`${one.side} ${one.text}`));
  const found = {
    op: a.step.op,
    a: a.step.n,
    b: b.step.n,
    answers: inOrder(a.lines.answers, b.lines.answers),
    events: inOrder(a.lines.events, b.lines.events),
    state,
  };
  return [found, new Set(differs.map((one) => `${one.side} ${one.text}`))];
}

function inOrder(a: readonly string[], b: readonly string[]): LineDifference[] {
  return diffArrays([...a], [...b]).flatMap(({ added, removed, value }) => {
    if (!added && !removed) return [];
    return value.map((text) => ({ side: removed ? "a" : "b", text }) as const);
  });
}

/** Lines that `lines` has more often than `others`. */
function surplus(side: "a" | "b", lines: readonly string[], others: readonly string[]): LineDifference[] {
  const left = new Map<string, number>();
  for (const text of others) left.set(text, (left.get(text) ?? 0) + 1);
  return lines.flatMap((text) => {
    const count = left.get(text) ?? 0;
    left.set(text, count - 1);
    return count > 0 ? [] : [{ side, text }];
  });
}
