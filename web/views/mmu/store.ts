/** What the MMU view shows: what is open, and the step that is looked at. */
import { signal } from "@preact/signals";
import { type Client, startWorker } from "../../engine/client.js";
import type { MmuSession, Shown, ShownStep } from "../../engine/mmu/session.js";
import { STORIES } from "../../engine/mmu/story-list.js";
import type { InputFile } from "../../engine/served-file.js";
import { guarded, problem } from "../../state/problem.js";
import { route, setParams } from "../../state/route.js";
import { servedRecording } from "../../state/served-files.js";
import { runTask } from "../../state/tasks.js";

export interface Open {
  readonly shown: Shown;
  /** Undefined where there is none: a trace without page faults. */
  readonly step: ShownStep | undefined;
  /** The example's name; undefined of a file. */
  readonly example: string | undefined;
}

export const open = signal<Open | undefined>(undefined);
/** A file is being opened. */
export const busy = signal(false);

let session: Client<MmuSession> | undefined;
/** How often something was asked for: what was asked before is of no interest. */
let asked = 0;

function worker(): Client<MmuSession> {
  session ??= startWorker<MmuSession>(
    new Worker(new URL("../../engine/mmu/worker.ts", import.meta.url), { type: "module" }),
  );
  return session;
}

/** Opens an example at a step. */
export function openExample(id: string, step: number): Promise<void> {
  return show(id, step, () => worker().example(id));
}

/** Opens a packed recording, or a trace. */
export function openFile(file: InputFile): Promise<void> {
  return show(undefined, 0, () => runTask(worker(), `Reading ${file.name}`, (task) => worker().open(file, task)));
}

async function show(example: string | undefined, step: number, load: () => PromiseLike<Shown>): Promise<void> {
  const turn = ++asked;
  busy.value = true;
  await guarded(async () => {
    const shown = await load();
    const number = Math.min(Math.max(0, step), shown.steps.length - 1);
    const first = number < 0 ? undefined : await worker().step(number);
    if (turn !== asked) return;
    open.value = { shown, step: first, example };
    remember();
  });
  if (turn === asked) busy.value = false;
}

export async function goTo(number: number): Promise<void> {
  const current = open.value;
  if (current === undefined || number < 0 || number >= current.shown.steps.length) return;
  const turn = ++asked;
  await guarded(async () => {
    const step = await worker().step(number);
    if (turn !== asked) return;
    open.value = { ...current, step };
    remember();
  });
}

/** The URL leads back to an example; a file has to be chosen again. */
function remember(): void {
  const current = open.value;
  if (route.value.view !== "mmu" || current === undefined) return;
  // The user has followed a link meanwhile, which is looked at in a moment.
  if (keyOf(route.value.params.example, route.value.params.step) !== here) return;
  const step = current.example === undefined ? undefined : `${current.step?.number ?? 0}`;
  here = keyOf(current.example, step);
  own.add(here);
  setParams({ example: current.example, step });
}

const keyOf = (example: string | undefined, step: string | undefined): string => `${example} ${step}`;

/** What the URL said when it was followed, or written, last. */
let here = keyOf(undefined, undefined);

/** What this view has put into the URL itself since the user went somewhere by it. */
const own = new Set<string>();

/** Shows what a URL means, unless the view has put it there itself; the first example where it names none that there is. */
export async function follow(example: string | undefined, step: string | undefined): Promise<void> {
  here = keyOf(example, step);
  if (own.has(here)) return;
  own.clear();
  const number = Number(step ?? 0);
  if (example !== undefined && !STORIES.some(({ id }) => id === example)) {
    await openExample(STORIES[0].id, 0);
    problem.value = `example ${example.slice(0, 40)}: expected ${STORIES.map(({ id }) => id).join(", ")}`;
  } else if (example !== undefined) await openExample(example, Number.isInteger(number) ? number : 0);
  else if (open.value === undefined) {
    const served = servedRecording();
    await (served === undefined ? openExample(STORIES[0].id, 0) : openFile(served));
  }
}
