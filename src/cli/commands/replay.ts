/** `x86-paging replay`: replays KVM recordings and compares events and state after each step. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { KERNELS, type Kernel } from "../../abi/kernel-rules.js";
import type { PagingEngine } from "../../api.js";
import { jsonText } from "../../json-text.js";
import { PACKED_SUFFIX } from "../../recording/format/pack.js";
import {
  Describer,
  findRecordings,
  isPass,
  judgeWalks,
  packRecording,
  type Recording,
  RecordingError,
  type ReplayReport,
  ReplaySummary,
  type ReplayTargetFactory,
  readRecording,
  replay,
  type WalkReport,
} from "../../recording/index.js";
import { type AgainstReport, replayAgainst } from "../../recording/replay/against.js";
import { engineTarget } from "../../recording/replay/engine-target.js";
import { ENGINE_NAMES, type EngineName } from "../engine.js";
import { CliError, ExitCode } from "../errors.js";

/** What the command needs of the frame's context. */
export interface ReplayFrame {
  readonly out: { line(text: string): Promise<void> | undefined };
  exitCode: number;
  /** Says on standard error what went wrong. */
  problem(error: unknown): void;
  engine(name: EngineName): Promise<PagingEngine>;
}

interface ReplayCliOptions {
  summary?: boolean;
  json?: boolean;
  show: number;
  walks?: boolean;
  pack?: boolean;
  out: string;
  events: boolean;
  against?: Kernel;
  engine: EngineName;
}

const DEFAULT_SHOW = 5;
/** Differences after which a recording is given up. */
const DIFFERENCE_LIMIT = 1000;

/** Adds `replay` to the frame's program. `target` is the MMU that recordings are replayed on: this package's own. */
export function registerReplay(program: Command, frame: ReplayFrame, target: ReplayTargetFactory = engineTarget): void {
  program
    .command("replay")
    .description("replay KVM recordings and compare events, results and state after each step")
    .argument("<folder...>", "a recording (with scenario.json.gz), or a folder with recordings below it")
    .option("--summary", "print what was compared, what was allowed by which rule, and what was ignored")
    .option("--json", "one JSON object a recording, then one with the totals")
    .addOption(
      new Option("--show <n>", "differences printed per recording").argParser(parseCount).default(DEFAULT_SHOW),
    )
    .option("--no-events", "compare results and state only, with the engine's events off as in ordinary use")
    .addOption(
      new Option(
        "--against <kernel>",
        "replay with another kernel's rules, and say which rule explains each difference",
      ).choices([...KERNELS]),
    )
    .option(
      "--pack",
      "make one file of each recording instead (SCENARIO-CFG.recording), which commands and browsers read",
    )
    .option("--out <folder>", "where --pack puts the files", ".")
    .option("--walks", "only do the guest walks of the recordings again, without an MMU")
    .addOption(
      new Option("--engine <name>", "what walks the tables with --walks").choices(ENGINE_NAMES).default("wasm"),
    )
    .addHelpText(
      "after",
      "\nExamples:\n  x86-paging replay recordings/a1_lm4_wp1/npt0\n  x86-paging replay recordings --summary\n" +
        "  x86-paging replay recordings --walks --engine reference --json\n" +
        "  x86-paging replay recordings/d1_lm4_ptedit/npt0 --against 6.1\n" +
        "  x86-paging replay --pack recordings/d1_lm4_ptedit/npt0",
    )
    .action((folders: string[], options: ReplayCliOptions) => run(frame, folders, options, target));
}

async function run(
  frame: ReplayFrame,
  folders: readonly string[],
  options: ReplayCliOptions,
  target: ReplayTargetFactory,
): Promise<void> {
  const paths: string[] = [];
  let missing = 0;
  for (const folder of folders) {
    const found = await attempt(frame, folder, folders.length, options, () => findRecordings(folder));
    if (found === undefined) missing++;
    else paths.push(...found);
  }
  if (options.pack) await packAll(frame, paths, missing, options);
  else if (options.against !== undefined) await replayAllAgainst(frame, paths, options, target, options.against);
  else if (options.walks) {
    const engine = await frame.engine(options.engine);
    await judgeAll(frame, paths, missing, options, engine);
  } else await replayAll(frame, paths, missing, options, target);
}

/** Writes each recording as one file. Throws a CliError where there is a file of that name. */
async function packAll(
  frame: ReplayFrame,
  paths: readonly string[],
  missing: number,
  options: ReplayCliOptions,
): Promise<void> {
  let unreadable = missing;
  for (const path of paths) {
    const packed = await attempt(frame, path, paths.length, options, () => {
      const { scenario, cfg } = readRecording(path).config;
      return { name: `${scenario}-${cfg}`.replace(/[^\w.-]/g, "_"), bytes: packRecording(path) };
    });
    if (packed === undefined) {
      unreadable++;
      continue;
    }
    const file = join(options.out, `${packed.name}${PACKED_SUFFIX}`);
    try {
      writeFileSync(file, packed.bytes, { flag: "wx" });
    } catch (error) {
      throw new CliError(
        `${file}: cannot be written: ${/^E[A-Z]+: ([^,]+)/.exec((error as Error).message)?.[1] ?? String(error)}`,
      );
    }
    if (options.json) await frame.out.line(jsonText({ recording: path, file, size: packed.bytes.length }));
    else await frame.out.line(file);
  }
  frame.exitCode = exitCodeOf(0, unreadable);
}

/** With another kernel's rules: each difference, and the rule behind it. */
async function replayAllAgainst(
  frame: ReplayFrame,
  paths: readonly string[],
  options: ReplayCliOptions,
  target: ReplayTargetFactory,
  kernel: Kernel,
): Promise<void> {
  const counts = new Map<string, number>();
  let unreadable = 0;
  for (const path of paths) {
    const report = await attempt(frame, path, paths.length, options, () =>
      replayAgainst(readRecording(path), target, kernel, { limit: DIFFERENCE_LIMIT, events: options.events }),
    );
    if (report === undefined) {
      unreadable++;
      continue;
    }
    for (const { rules } of report.differences) {
      const name = ruleText(rules);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    if (options.json) await frame.out.line(jsonText(againstJson(report, options.show)));
    else for (const line of againstLines(report, options.show)) await frame.out.line(line);
  }
  const sorted = [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  if (options.json) await frame.out.line(jsonText({ kernel, explained: Object.fromEntries(sorted), unreadable }));
  else for (const [name, count] of sorted) await frame.out.line(`${String(count).padStart(8)}  ${name}`);
  frame.exitCode = exitCodeOf(counts.get(UNEXPLAINED) ?? 0, unreadable);
}

const UNEXPLAINED = "unexplained";

function ruleText(rules: AgainstReport["differences"][number]["rules"]): string {
  return rules === undefined ? UNEXPLAINED : rules.join(" + ");
}

function* againstLines(report: AgainstReport, show: number): IterableIterator<string> {
  const { recording, kernel, differences, failure } = report;
  const stop = failure === undefined ? "" : `, stopped in step ${failure.step}: ${messageOf(failure.error)}`;
  yield `${recording.path}: Linux ${recording.config.kernel} against ${kernel}, ${differences.length} differences${stop}`;
  const describer = new Describer(recording.config);
  for (const { difference, rules } of differences.slice(0, show)) {
    const { step, op, what, recorded, replayed } = describer.describe(difference);
    yield `  step ${step} (${op}): ${what}`;
    yield `    recorded  ${recorded}`;
    yield `    replayed  ${replayed}`;
    yield `    rule      ${ruleText(rules)}`;
  }
}

function againstJson(report: AgainstReport, show: number): Record<string, unknown> {
  const { recording, kernel, differences, failure } = report;
  const describer = new Describer(recording.config);
  return {
    recording: recording.path,
    recordedKernel: recording.config.kernel,
    kernel,
    differences: differences.length,
    first: differences.slice(0, show).map(({ difference, rules }) => ({
      ...describer.describe(difference),
      rules: rules ?? null,
    })),
    ...(failure === undefined ? {} : { failure: { step: failure.step, message: messageOf(failure.error) } }),
  };
}

async function replayAll(
  frame: ReplayFrame,
  paths: readonly string[],
  missing: number,
  options: ReplayCliOptions,
  target: ReplayTargetFactory,
): Promise<void> {
  const summary = new ReplaySummary();
  for (let folder = 0; folder < missing; folder++) summary.addUnreadable();
  for (const path of paths) {
    const report = await attempt(frame, path, paths.length, options, () =>
      replay(readRecording(path), target, { limit: DIFFERENCE_LIMIT, events: options.events }),
    );
    if (report === undefined) {
      summary.addUnreadable();
      continue;
    }
    summary.add(report);
    if (options.json) await frame.out.line(jsonText(reportJson(report, options.show)));
    else for (const line of reportLines(report, options.show)) await frame.out.line(line);
  }
  if (options.json) await frame.out.line(jsonText(summary.toJson()));
  else {
    if (options.summary) {
      for (const line of summary.lines()) await frame.out.line(line);
      await frame.out.line("");
    }
    await frame.out.line(`${summary.passed} passed, ${summary.failed} failed`);
  }
  frame.exitCode = exitCodeOf(summary.failed, summary.unreadable);
}

/**
 * What `action` gives; undefined where the recording at `path` is at fault, which is said. The others are replayed
 * nevertheless; one alone is an error of the command.
 */
async function attempt<T>(
  frame: ReplayFrame,
  path: string,
  paths: number,
  options: ReplayCliOptions,
  action: () => T,
): Promise<T | undefined> {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof RecordingError) || paths === 1) throw error;
    frame.problem(error);
    if (options.json) await frame.out.line(jsonText({ recording: path, pass: false, unreadable: error.message }));
    else await frame.out.line(`${path}: cannot be replayed`);
    return undefined;
  }
}

function exitCodeOf(failed: number, unreadable: number): number {
  if (unreadable > 0) return ExitCode.Failure;
  return failed > 0 ? ExitCode.Negative : ExitCode.Success;
}

/** Nothing for a recording that passes. */
function* reportLines(report: ReplayReport, show: number): IterableIterator<string> {
  if (isPass(report)) return;
  const { recording, differences, failure } = report;
  const count = `${differences.length}${differences.length >= DIFFERENCE_LIMIT ? " or more" : ""} differences`;
  yield `${recording.path}: ${count}${failure === undefined ? "" : `, stopped in step ${failure.step}: ${messageOf(failure.error)}`}`;
  const describer = new Describer(recording.config);
  for (const difference of differences.slice(0, show)) {
    const { step, op, what, recorded, replayed } = describer.describe(difference);
    yield `  step ${step} (${op}): ${what}`;
    yield `    recorded  ${recorded}`;
    yield `    replayed  ${replayed}`;
  }
}

function reportJson(report: ReplayReport, show: number): Record<string, unknown> {
  const describer = new Describer(report.recording.config);
  return {
    recording: report.recording.path,
    pass: isPass(report),
    steps: report.steps,
    differences: report.differences.length,
    first: report.differences.slice(0, show).map((difference) => describer.describe(difference)),
    ...(report.failure === undefined
      ? {}
      : { failure: { step: report.failure.step, message: messageOf(report.failure.error) } }),
  };
}

async function judgeAll(
  frame: ReplayFrame,
  paths: readonly string[],
  missing: number,
  options: ReplayCliOptions,
  engine: PagingEngine,
): Promise<void> {
  let passed = 0;
  let walks = 0;
  let matched = 0;
  let unreadable = missing;
  for (const path of paths) {
    const judged = await attempt(frame, path, paths.length, options, () => {
      const recording = readRecording(path);
      return { recording, report: judgeWalks(recording, engine) };
    });
    if (judged === undefined) {
      unreadable++;
      continue;
    }
    const { recording, report } = judged;
    walks += report.walks;
    matched += report.matched;
    if (report.differences.length === 0) passed++;
    if (options.json) await frame.out.line(jsonText(walkJson(recording, report, options.show)));
    else for (const line of walkLines(recording, report, options.show)) await frame.out.line(line);
  }
  const recordings = paths.length + missing;
  const failed = recordings - passed;
  if (options.json) await frame.out.line(jsonText({ recordings, passed, failed, unreadable, walks, matched }));
  else {
    if (options.summary) await frame.out.line(`${matched} of ${walks} guest walks equal`);
    await frame.out.line(`${passed} passed, ${failed} failed`);
  }
  frame.exitCode = exitCodeOf(failed, unreadable);
}

function* walkLines(recording: Recording, report: WalkReport, show: number): IterableIterator<string> {
  if (report.differences.length === 0) return;
  yield `${recording.path}: ${report.walks - report.matched} of ${report.walks} walks differ`;
  for (const { step, event, expected, found } of report.differences.slice(0, show)) {
    yield `  step ${step}, event ${event}`;
    for (const line of expected) yield `    recorded  ${line}`;
    for (const line of found) yield `    replayed  ${line}`;
  }
}

function walkJson(recording: Recording, report: WalkReport, show: number): Record<string, unknown> {
  return {
    recording: recording.path,
    pass: report.differences.length === 0,
    walks: report.walks,
    matched: report.matched,
    first: report.differences.slice(0, show),
  };
}

function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("expected a number.");
  return Number(text);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
