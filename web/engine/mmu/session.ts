/** What the MMU view asks of its worker: open a recording or an example, and show its steps one by one. */
import { type Core, loadSync } from "x86-paging";
import {
  Describer,
  engineTarget,
  isPackedRecording,
  openRecording,
  type PlayedStep,
  printEvent,
  replay,
  TEXT_KINDS,
} from "x86-paging/recording";
import type { TraceReport } from "x86-paging/trace";
import { blobOf, type InputFile, wholeBlob } from "../served-file.js";
import { type RunningTask, type TaskInput, Tasks } from "../tasks.js";
import { recordedPicture, replayedPicture } from "./from-recording.js";
import { MOST_MOMENTS, readTrace, traceAt } from "./from-trace.js";
import { type Changes, changesBetween, type Picture } from "./picture.js";
import { tell } from "./stories.js";
import { STORIES, type StoryId } from "./story-list.js";

export interface StepTitle {
  readonly title: string;
  /** Pages that were made, changed, or went; on the side with the most. */
  readonly changes: number;
  readonly differences: number;
}

/** What is open. */
export interface Shown {
  readonly kind: "example" | "recording" | "trace";
  readonly title: string;
  readonly text: string;
  /** One picture, or two to be compared. */
  readonly sides: readonly string[];
  readonly steps: readonly StepTitle[];
  /** What the steps do not show, if anything. */
  readonly warning?: string;
  /** What a trace tells as a whole. */
  readonly report?: TraceReport;
}

export interface SideStep {
  /** What came of the step; of recordings nothing. */
  readonly result: string;
  readonly picture: Picture;
  readonly changes: Changes;
  readonly events: readonly string[];
}

export interface ShownStep {
  readonly number: number;
  readonly title: string;
  readonly note: string;
  readonly sides: readonly SideStep[];
  readonly differences: readonly { readonly what: string; readonly recorded: string; readonly replayed: string }[];
}

/** Entries of all pictures together that are kept: a recording with more is shown as far as that goes. */
const MOST_ENTRIES = 3_000_000;

export class MmuSession {
  readonly #core: Core = loadSync();
  readonly #tasks = new Tasks();
  #count = 0;
  #at: (number: number) => ShownStep | Promise<ShownStep> = () => {
    throw new Error("expected something that is open");
  };

  /** Ends a task of `open`. */
  cancel(id: number): void {
    this.#tasks.cancel(id);
  }

  /** One of the built-in examples. Throws a RangeError for another name. */
  example(id: string): Shown {
    const story = STORIES.find((one) => one.id === id);
    if (story === undefined) throw new RangeError(`${id}: expected one of ${STORIES.map((one) => one.id).join(", ")}`);
    const { sides, steps } = tell(this.#core, story.id as StoryId);
    return this.#show(
      { kind: "example", title: story.title, text: story.text, sides },
      steps.map(({ title, note, sides: told }) => ({ title, note, sides: told, differences: [] })),
    );
  }

  /** A recording that `replay --pack` made one file of, or else a kernel's trace. Throws RecordingError and TraceError. */
  async open(file: InputFile, task: TaskInput): Promise<Shown> {
    const beginning = new Uint8Array(await blobOf(file).slice(0, Math.min(64, file.size)).arrayBuffer());
    return this.#tasks.run(task, (running) =>
      isPackedRecording(beginning) ? this.#recording(file) : this.#trace(file, running),
    );
  }

  /** A trace: what it tells, and its faults step by step. */
  async #trace(file: InputFile, running: RunningTask): Promise<Shown> {
    const blob = blobOf(file);
    const { report, moments, faults } = await readTrace(blob, file.name, running);
    const told = new Map<number, Promise<{ picture: Picture; events: readonly string[] }>>();
    const at = (number: number) => {
      const known =
        told.get(number) ?? traceAt(blob, moments[number]!.time, moments[number + 1]?.time ?? Number.POSITIVE_INFINITY);
      told.set(number, known);
      return known;
    };
    this.#count = moments.length;
    this.#at = async (number) => {
      const before = number === 0 ? undefined : await at(number - 1);
      const { picture, events } = await at(number);
      // Pictures are made again where they are wanted again.
      for (const old of told.keys()) if (Math.abs(old - number) > 1) told.delete(old);
      const changes = changesBetween(before?.picture, picture);
      const { time, text } = moments[number]!;
      return {
        number,
        title: text,
        note: `at ${time.toFixed(6)} s`,
        differences: [],
        sides: [{ result: "", picture, changes, events }],
      };
    };
    const { release, oldest, newest } = report.kernel;
    const bounds = [oldest, newest].filter((name) => name !== undefined).join(" to ");
    const kernel = release ?? (bounds === "" ? "of an unknown release" : bounds);
    return {
      kind: "trace",
      title: file.name,
      text: `A trace (${report.format}) of Linux ${kernel}: ${report.events} events. Each step is a page fault; pages are those that the trace has shown until the next one.`,
      sides: ["as far as the trace shows"],
      steps: moments.map(({ text }) => ({ title: text, changes: 0, differences: 0 })),
      report,
      ...(faults > MOST_MOMENTS && {
        warning: `only the first ${MOST_MOMENTS} of ${faults} page faults are steps here`,
      }),
    };
  }

  async #recording(file: InputFile): Promise<Shown> {
    const recording = await openRecording(await wholeBlob(blobOf(file)), file.name);
    const { config } = recording;
    const describer = new Describer(config);
    const steps: Draft[] = [];
    let entries = 0;
    let warning: string | undefined;
    const onStep = (played: PlayedStep) => {
      if (entries > MOST_ENTRIES) return;
      const draft = draftOf(played, describer);
      entries += draft.sides.reduce((sum, { picture }) => sum + sizeOf(picture), 0);
      if (entries > MOST_ENTRIES)
        warning = `the pages have more entries than are kept: only the first ${steps.length} of ${recording.steps.length} steps are shown`;
      else steps.push(draft);
    };
    const { failure } = replay(recording, engineTarget, { onStep });
    if (failure !== undefined)
      warning = `the replay ended in step ${failure.step}: ${(failure.error as Error).message}`;
    const mmu = config.npt ? "NPT" : config.ept ? "EPT" : "shadow paging";
    return this.#show(
      {
        kind: "recording",
        title: `${config.scenario}, Linux ${config.kernel}`,
        text: `A recording of a real kernel (${mmu}, ${config.cfg}, guest mode ${config.guestMode}), beside its replay on this project's engine, in which every root is an ordinary shadow page.`,
        sides: [`Linux ${config.kernel}, as recorded`, "this engine"],
        ...(warning === undefined ? {} : { warning }),
      },
      steps,
    );
  }

  /** One step. Throws a RangeError for a number that there is not. */
  async step(number: number): Promise<ShownStep> {
    if (!Number.isInteger(number) || number < 0 || number >= this.#count) {
      throw new RangeError(`expected a step from 0 to ${this.#count - 1}, found ${number}`);
    }
    return this.#at(number);
  }

  #show(shown: Omit<Shown, "steps">, drafts: readonly Draft[]): Shown {
    const before: (Picture | undefined)[] = [];
    const all = drafts.map(({ title, note, sides, differences }, number) => ({
      number,
      title,
      note,
      differences,
      sides: sides.map((side, index) => {
        const changes = changesBetween(before[index], side.picture);
        before[index] = side.picture;
        return { ...side, changes };
      }),
    }));
    this.#count = all.length;
    this.#at = (number) => all[number]!;
    const steps = all.map(({ title, sides, differences }) => {
      const counts = sides.map(({ changes: { made, changed, gone } }) => made.length + changed.length + gone.length);
      return { title, changes: Math.max(...counts), differences: differences.length };
    });
    return { ...shown, steps };
  }
}

/** A step before it is compared with the one before. */
type Draft = Omit<ShownStep, "number" | "sides"> & { readonly sides: readonly Omit<SideStep, "changes">[] };

const sizeOf = ({ pages, tables }: Picture): number =>
  [...pages, ...tables].reduce((sum, { entries }) => sum + entries.length + 4, 0);

function draftOf(played: PlayedStep, describer: Describer): Draft {
  const { step, events, differences } = played;
  const text = (list: readonly { readonly ev: string }[]) =>
    list.filter(({ ev }) => TEXT_KINDS.has(ev)).map((event) => `${event.ev}: ${printEvent(event as never)}`);
  const where = step.kind === "guest" && step.gva !== 0n ? ` at 0x${step.gva.toString(16)}` : "";
  return {
    title: `${step.op}${where}`,
    note: step.kind === "guest" ? `vCPU ${step.vcpu}, CPL ${step.cpl}: ${step.result}` : "the VM monitor",
    sides: [
      { result: "", picture: recordedPicture(played), events: text(step.events) },
      { result: "", picture: replayedPicture(played), events: text(events as readonly { readonly ev: string }[]) },
    ],
    differences: differences.map((one) => {
      const { what, recorded, replayed } = describer.describe(one);
      return { what, recorded, replayed };
    }),
  };
}
