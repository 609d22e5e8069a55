/** Replaying a recording with another kernel's rules, and finding the rule behind each difference. */
import { hasRule, type Kernel, type KernelRuleName, RULE_NAMES } from "../../abi/kernel-rules.js";
import type { Recording } from "../format/recording.js";
import { type ReplayOptions, type ReplayReport, replay, type StepDifference } from "./replayer.js";
import type { ReplayTargetFactory } from "./target.js";

/** A difference, and which rules of the recorded kernel make it vanish together; undefined: none do. */
export interface ExplainedDifference {
  readonly difference: StepDifference;
  readonly rules: readonly KernelRuleName[] | undefined;
}

export interface AgainstReport {
  readonly recording: Recording;
  readonly kernel: Kernel;
  readonly differences: readonly ExplainedDifference[];
  readonly failure: ReplayReport["failure"];
}

/** Replays with `kernel`'s rules, then with some of the recorded kernel's instead, until the differences vanish. */
export function replayAgainst(
  recording: Recording,
  factory: ReplayTargetFactory,
  kernel: Kernel,
  options: ReplayOptions = {},
): AgainstReport {
  const trial = new Trial(recording, factory, kernel, options);
  const { differences, failure } = trial.base;
  const explained = differences.map((difference) => ({ difference, rules: trial.explain(nameOf(difference)) }));
  return { recording, kernel, differences: explained, failure };
}

class Trial {
  readonly base: ReplayReport;
  readonly #differing: readonly KernelRuleName[];
  /** Names of the differences that are left, by the rules of the recorded kernel that were switched on. */
  readonly #left = new Map<string, ReadonlySet<string>>();
  /** What explained a difference, the sets that did so last first. */
  readonly #found: (readonly KernelRuleName[])[] = [];

  constructor(
    readonly recording: Recording,
    readonly factory: ReplayTargetFactory,
    readonly kernel: Kernel,
    readonly options: ReplayOptions,
  ) {
    this.#differing = RULE_NAMES.filter((name) => hasRule(kernel, name) !== hasRule(recording.config.kernel, name));
    this.base = this.#replay([]);
  }

  #replay(rules: readonly KernelRuleName[]): ReplayReport {
    const recorded = this.recording.config.kernel;
    const kernelRules = Object.fromEntries(rules.map((name) => [name, hasRule(recorded, name)]));
    const factory: ReplayTargetFactory = (config, host, sink) => {
      return this.factory({ ...config, kernel: this.kernel, kernelRules }, host, sink);
    };
    return replay(this.recording, factory, this.options);
  }

  #leaves(rules: readonly KernelRuleName[], name: string): boolean {
    const key = rules.join(" ");
    let left = this.#left.get(key);
    if (left === undefined) {
      const report = this.#replay(rules);
      left = new Set([...report.differences.map(nameOf), ...(report.failure === undefined ? [] : [FAILURE])]);
      this.#left.set(key, left);
    }
    return left.has(name) || left.has(FAILURE);
  }

  /** The rules that the difference of that name needs, all of them; undefined where it stays with every one switched. */
  explain(name: string): readonly KernelRuleName[] | undefined {
    const known = this.#found.find((rules) => !this.#leaves(rules, name));
    if (known !== undefined) return known;
    const alone = this.#differing.find((rule) => !this.#leaves([rule], name));
    if (alone !== undefined) return this.#keep([alone]);
    if (this.#leaves(this.#differing, name)) return undefined;
    let needed = this.#differing;
    for (const rule of this.#differing) {
      const without = needed.filter((other) => other !== rule);
      if (!this.#leaves(without, name)) needed = without;
    }
    return this.#keep(needed);
  }

  #keep(rules: readonly KernelRuleName[]): readonly KernelRuleName[] {
    this.#found.push(rules);
    return rules;
  }
}

/** Stands for a replay that did not come to its end: nothing is explained by it. */
const FAILURE = "failure";

/** What is the same of a difference in two replays: the step and the recorded side. */
function nameOf({ step, difference }: StepDifference): string {
  const text = (value: unknown): string => {
    return (
      JSON.stringify(value, (_, item: unknown) => (typeof item === "bigint" ? `0x${item.toString(16)}` : item)) ?? ""
    );
  };
  if (difference.kind !== "event") return `${step} ${difference.kind} ${difference.where}`;
  const { recorded, replayed } = difference;
  // An event that only the replay has is known by its kind: its addresses are no other replay's.
  return `${step} event ${recorded === undefined ? `none ${replayed?.ev}` : text(recorded)}`;
}
