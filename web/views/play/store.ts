/** What the playground shows, and how acts get to its worker. */
import { signal } from "@preact/signals";
import { type Client, startWorker } from "../../engine/client.js";
import type { PlayAct, PlaySession, PlayShown } from "../../engine/play/session.js";
import { guarded } from "../../state/problem.js";
import { route, setParams } from "../../state/route.js";

export const shown = signal<PlayShown | undefined>(undefined);
/** What the last act was, for who does not see the page. */
export const said = signal("");

/** There is no machine, as the link means none. */
export const failed = signal(false);

let session: Client<PlaySession> | undefined;

function worker(): Client<PlaySession> {
  session ??= startWorker<PlaySession>(
    new Worker(new URL("../../engine/play/worker.ts", import.meta.url), { type: "module" }),
  );
  return session;
}

/** Begins the machine that the URL means, unless it is the one that is shown and not to begin `anew`. */
export async function begin(params: Readonly<Record<string, string>>, anew = false): Promise<void> {
  const { exercise, ...link } = params;
  if (!anew && shown.value !== undefined && same(link, shown.value.link) && exercise === shown.value.exercise) return;
  await act({ do: "begin", link, ...(exercise === undefined ? {} : { exercise }) }, "a new machine");
  failed.value = shown.value === undefined;
}

/** Does what the user wants, and keeps the link to the machine in the URL. */
export async function act(what: PlayAct, text: string): Promise<void> {
  await guarded(async () => {
    const after = await worker().act(what);
    shown.value = after;
    said.value = text;
    if (route.value.view !== "play") return;
    const old = Object.fromEntries(Object.keys(route.value.params).map((name) => [name, undefined]));
    setParams({ ...old, ...after.link, exercise: after.exercise });
  });
}

function same(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].every((name) => one[name] === other[name]);
}
