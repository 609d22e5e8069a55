/** Where the user is: a view and its state, in the fragment of the URL, so that a link leads back to what is shown. */
import { signal } from "@preact/signals";

export const VIEW_NAMES = ["dump", "walk", "decode", "mmu", "play"] as const;
export type ViewName = (typeof VIEW_NAMES)[number];

export interface Route {
  readonly view: ViewName;
  readonly params: Readonly<Record<string, string>>;
}

/** The route that a fragment means, `#/walk?address=1000`; the first view where it means none. */
export function parseRoute(fragment: string): Route {
  const [path = "", query = ""] = fragment.replace(/^#\/?/, "").split("?", 2);
  const view = VIEW_NAMES.find((name) => name === path) ?? VIEW_NAMES[0];
  return { view, params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The fragment of a route. */
export function hrefOf(view: ViewName, params: Readonly<Record<string, string | undefined>> = {}): string {
  const given = Object.entries(params).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${view}${query === "" ? "" : `?${query}`}`;
}

export const route = signal<Route>(parseRoute(location.hash));
addEventListener("hashchange", () => {
  route.value = parseRoute(location.hash);
});

/** Goes to a view, as a link does. */
export function navigate(view: ViewName, params: Readonly<Record<string, string | undefined>> = {}): void {
  location.hash = hrefOf(view, params);
}

/** Changes the state of the view that is shown; `undefined` takes a parameter away. Makes no entry in the history. */
export function setParams(changes: Readonly<Record<string, string | undefined>>): void {
  const { view, params } = route.value;
  history.replaceState(null, "", hrefOf(view, { ...params, ...changes }));
  route.value = parseRoute(location.hash);
}
