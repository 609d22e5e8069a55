/** The dump that is open and the space that is looked at, for every view that shows something of them. */
import { batch, signal } from "@preact/signals";
import { type Client, startWorker } from "../../engine/client.js";
import type {
  DumpAnswer,
  Filter,
  ListAnswer,
  Order,
  RawOptions,
  SpaceAnswer,
  SpaceChoice,
} from "../../engine/dump/answers.js";
import type { DumpWorker } from "../../engine/dump/dump-worker.js";
import type { ScannedSpaces } from "../../engine/dump/finding.js";
import type { InputFile } from "../../engine/served-file.js";
import { guarded, messageOf, noted } from "../problem.js";
import { route, setParams } from "../route.js";
import { servedDump } from "../served-files.js";
import { runTask, type TaskHandle } from "../tasks.js";
import { loadExample } from "./example.js";
import { TWO_STAGE_PARAMS, twoStageExample } from "./two-stage-example.js";

export const dump = signal<DumpAnswer | undefined>(undefined);
/** What the dump was opened from, to read it otherwise. */
export const input = signal<readonly InputFile[]>([]);
export const space = signal<SpaceAnswer | undefined>(undefined);
/** Why the dump has no space to look at. */
export const spaceProblem = signal<string | undefined>(undefined);
export const list = signal<ListAnswer | undefined>(undefined);
/** Ranges that the filters let through; undefined while that is not known. */
export const shown = signal<number | undefined>(undefined);
/** Counts what changes the rows. */
export const arranged = signal(0);
export const spaces = signal<ScannedSpaces | undefined>(undefined);

let started: Client<DumpWorker> | undefined;

export function dumpWorker(): Client<DumpWorker> {
  started ??= startWorker<DumpWorker>(
    new Worker(new URL("../../engine/dump/worker.ts", import.meta.url), { type: "module" }),
  );
  return started;
}

/** Runs an operation of the worker as a task; what it answers of a dump or space that was left meanwhile is an AbortError. */
export function ask<T>(
  label: string,
  run: (worker: Client<DumpWorker>, task: TaskHandle) => PromiseLike<T>,
): Promise<T> {
  const worker = dumpWorker();
  return runTask({ cancel: (id) => worker.cancel(id) }, label, (task) => run(worker, task));
}

/** Parameters that say something of one dump. */
const NOTHING = Object.fromEntries(
  ["cpu", "cr3", "mode", "table", "address", "stage", "root", "guest"].map((name) => [name, undefined]),
);

let opens = 0;

/** Opens files that are one dump; where that fails, what is open stays. */
export async function openFiles(files: readonly InputFile[], raw: RawOptions = {}): Promise<void> {
  const mine = ++opens;
  await openLoaded(mine, async () => files, raw);
}

export async function openExample(): Promise<void> {
  const mine = ++opens;
  await openLoaded(mine, async () => [await loadExample()], {});
}

/** Opens the memory of a machine with a nested guest, and walks in that. */
export async function openTwoStageExample(): Promise<void> {
  const mine = ++opens;
  await openLoaded(mine, async () => [twoStageExample()], { rawOffset: 0n }, TWO_STAGE_PARAMS);
}

/** `params`: what the URL is to say of it. */
async function openLoaded(
  mine: number,
  load: () => Promise<readonly InputFile[]>,
  raw: RawOptions,
  params?: Readonly<Record<string, string>>,
): Promise<void> {
  const files = await load();
  if (mine !== opens) return;
  const first = dump.value === undefined;
  const opened = await ask(`Opening ${files[0]?.name}`, (worker, task) => worker.open(task, files, raw));
  if (mine !== opens) return;
  batch(() => {
    input.value = files;
    dump.value = opened;
    leaveSpace();
    spaces.value = undefined;
    // What a link says is of the dump that it is opened with; of another one it says nothing.
    if (!first) setParams(NOTHING);
    if (params !== undefined) setParams(params);
  });
  await chooseSpace(choiceInUrl());
}

function leaveSpace(): void {
  space.value = undefined;
  spaceProblem.value = undefined;
  list.value = undefined;
  shown.value = undefined;
}

/** Opens the files that the page was started for, or the example, unless something is open. */
export function openFirst(): Promise<void> {
  if (opens > 0) return Promise.resolve();
  const served = servedDump();
  return guarded(() => (served.length > 0 ? openFiles(served) : openExample()));
}

let choices = 0;
let chosen: SpaceChoice = {};

const keyOf = (choice: SpaceChoice) => `${choice.cpu} ${choice.cr3} ${choice.mode}`;

/** Looks at another space; `followed`: as a link says, which also says what is looked at in it. A dump's first that cannot be had is said where spaces are chosen; later ones are refused. */
export async function chooseSpace(choice: SpaceChoice, followed = false): Promise<void> {
  const opened = dump.value;
  if (opened === undefined) return;
  const mine = ++choices;
  const before = chosen;
  chosen = choice;
  try {
    const answer = await ask("Reading registers", (worker, task) => worker.choose(task, opened.id, choice));
    if (mine !== choices || dump.value !== opened) return;
    batch(() => {
      const former = space.value;
      leaveSpace();
      space.value = answer;
      setParams({
        ...paramsOf(choice),
        ...(former === undefined || followed ? {} : { table: undefined }),
      });
    });
  } catch (error) {
    if (mine !== choices || dump.value !== opened) return;
    if (space.value !== undefined) {
      chosen = before;
      setParams(paramsOf(before));
      throw error;
    }
    spaceProblem.value = (error as Error).name === "AbortError" ? "The search was cancelled." : messageOf(error);
    return;
  }
  void noted(() => relist());
}

/** Lists the ranges from an address on. */
export async function relist(from = 0n): Promise<void> {
  const current = space.value;
  if (current === undefined || current.mode === "none") return;
  const answer = await ask("Listing ranges", (worker, task) => worker.list(task, current.id, from));
  if (space.value === current) list.value = answer;
}

/** Chooses and orders the rows of the list. */
export async function arrange(filters: readonly Filter[], order: Order): Promise<void> {
  const current = space.value;
  if (current === undefined || list.value === undefined) return;
  const count = await ask("Arranging ranges", (worker, task) => worker.arrange(task, current.id, filters, order));
  if (space.value !== current) return;
  batch(() => {
    shown.value = count;
    arranged.value++;
  });
}

export async function findSpaces(): Promise<void> {
  const opened = dump.value;
  if (opened === undefined) return;
  const found = await ask("Searching for address spaces", (worker, task) => worker.spaces(task, opened.id));
  if (dump.value === opened) spaces.value = found;
}

const hexIn = (text: string | undefined): bigint | undefined =>
  text !== undefined && /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;

/** The address that the URL names. */
export function addressInUrl(): bigint | undefined {
  return hexIn(route.value.params.address);
}

function paramsOf({ cpu, cr3, mode }: SpaceChoice) {
  return { cpu: cpu?.toString(), cr3: cr3?.toString(16), mode };
}

function choiceInUrl(): SpaceChoice {
  const { cpu, cr3, mode } = route.value.params;
  return {
    cpu: cpu !== undefined && /^\d{1,6}$/.test(cpu) ? Number(cpu) : undefined,
    cr3: hexIn(cr3),
    mode: mode === "32bit" || mode === "pae" || mode === "4level" || mode === "5level" ? mode : undefined,
  };
}

/** Filters and order of the list, as the URL has them. */
export function listInUrl(): { readonly filters: Filter[]; readonly order: Order } {
  const { filter = "", order } = route.value.params;
  const known: readonly Filter[] = ["user", "kernel", "write", "execute", "wx", "huge"];
  return {
    filters: known.filter((one) => filter.split(",").includes(one)),
    order: order === "physical" || order === "size" ? order : "address",
  };
}

/** Looks at the space that the URL names, where it names another: a link was followed. One that names none gets the name of what is shown. */
export function followUrl(): Promise<void> {
  const choice = choiceInUrl();
  if (dump.value === undefined || keyOf(choice) === keyOf(chosen)) return Promise.resolve();
  if (choice.cpu === undefined && choice.cr3 === undefined) {
    setParams(paramsOf(chosen));
    return Promise.resolve();
  }
  return guarded(() => chooseSpace(choice, true));
}
