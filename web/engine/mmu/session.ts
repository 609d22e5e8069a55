/** What the MMU view asks of its worker: open a recording or an example, and show its steps one by one. */
import { type Core, loadSync } from "x86-paging";
import {
  Describer,
  engineTarget,
  openRecording,
  type PlayedStep,
  printEvent,
  replay,
  TEXT_KINDS,
} from "x86-paging/recording";
import { blobOf, type InputFile, wholeBlob } from "../served-file.js";
import { recordedPicture, replayedPicture } from "./from-recording.js";
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
  readonly title: string;
  readonly text: string;
  /** One picture, or two to be compared. */
  readonly sides: readonly string[];
  readonly steps: readonly StepTitle[];
  /** What the steps do not show, if anything. */
  readonly warning?: string;
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
  #steps: readonly ShownStep[] = [];

  /** One of the built-in examples. Throws a RangeError for another name. */
  example(id: string): Shown {
    const story = STORIES.find((one) => one.id === id);
    if (story === undefined) throw new RangeError(`${id}: expected one of ${STORIES.map((one) => one.id).join(", ")}`);
    const { sides, steps } = tell(this.#core, story.id as StoryId);
    return this.#show(
      { title: story.title, text: story.text, sides },
      steps.map(({ title, note, sides: told }) => ({ title, note, sides: told, differences: [] })),
    );
  }

  /** A recording that `replay --pack` made one file of: as the kernel had it, beside its replay. Throws RecordingError. */
  async recording(file: InputFile): Promise<Shown> {
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
        title: `${config.scenario}, Linux ${config.kernel}`,
        text: `A recording of a real kernel (${mmu}, ${config.cfg}, guest mode ${config.guestMode}), beside its replay on this project's engine, in which every root is an ordinary shadow page.`,
        sides: [`Linux ${config.kernel}, as recorded`, "this engine"],
        ...(warning === undefined ? {} : { warning }),
      },
      steps,
    );
  }

  /** One step. Throws a RangeError for a number that there is not. */
  step(number: number): ShownStep {
    const step = this.#steps[number];
    if (step === undefined)
      throw new RangeError(`expected a step from 0 to ${this.#steps.length - 1}, found ${number}`);
    return step;
  }

  #show(shown: Omit<Shown, "steps">, drafts: readonly Draft[]): Shown {
    const before: (Picture | undefined)[] = [];
    this.#steps = drafts.map(({ title, note, sides, differences }, number) => ({
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
    const steps = this.#steps.map(({ title, sides, differences }) => {
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
