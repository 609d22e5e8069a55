/** Holds what files import to the directions, and finds circles of files and of places. */
import { circlesOf, fileGraph, type Graph, grouped } from "./graph.js";
import type { Sources } from "./sources.js";

export interface Place {
  readonly place: string;
  /** Places, files, or `folder/*`: every place below the folder. Its own files, always. */
  readonly mayImport: readonly string[];
}

/** What is wrong today and may only shrink: what is not listed is an error, and so is what is listed and gone. */
export interface KnownFaults {
  /** A name, and the files or the places that reach each other. */
  readonly circles: Readonly<Record<string, readonly string[]>>;
  /** For a file, the places that it may not import. */
  readonly imports: Readonly<Record<string, readonly string[]>>;
}

export interface Judgement {
  readonly problems: readonly string[];
  readonly filesRead: number;
  /** What is wrong, as a list of known faults: circles keep the name of a known one that they overlap. */
  readonly faults: KnownFaults;
}

export function judgeDirections(sources: Sources, places: readonly Place[], known: KnownFaults): Judgement {
  const { graph, problems: missing } = fileGraph(sources);
  const directions = new Directions(places);
  const homeless = [...graph.keys()].filter((path) => directions.placeOf(path) === undefined);
  if (homeless.length > 0) {
    const problems = homeless.map((path) => `${path}: its folder has no place in scripts/directions.ts`);
    return { problems: [...missing, ...problems], filesRead: sources.files.length, faults: known };
  }
  const placeOf = (path: string) => directions.placeOf(path)!.place;
  const circles = [...circlesOf(graph), ...circlesOf(grouped(graph, placeOf))];
  const wrong = wrongImports(graph, directions);
  const problems = [
    ...missing,
    ...directions.problems(),
    ...importProblems(wrong, known),
    ...circleProblems(circles, known),
  ];
  const imports: Record<string, string[]> = {};
  for (const { path, place } of wrong) imports[path] = [...new Set([...(imports[path] ?? []), place])].sort();
  return { problems, filesRead: sources.files.length, faults: { circles: named(circles, known), imports } };
}

/** How much is wrong. */
export function sizeOf({ circles, imports }: KnownFaults): number {
  return [...Object.values(circles), ...Object.values(imports)].flat().length;
}

class Directions {
  readonly #byName: ReadonlyMap<string, Place>;

  constructor(readonly places: readonly Place[]) {
    this.#byName = new Map(places.map((one) => [one.place, one]));
  }

  /** A file's own place, or that of its folder. */
  placeOf(path: string): Place | undefined {
    return this.#byName.get(path) ?? this.#byName.get(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
  }

  allows(from: Place, path: string): boolean {
    const to = this.placeOf(path)!;
    return from === to || from.mayImport.some((entry) => entry === path || this.#covers(entry, to));
  }

  #covers(entry: string, { place }: Place): boolean {
    return entry.endsWith("/*")
      ? place.startsWith(entry.slice(0, -1)) || place === entry.slice(0, -2)
      : entry === place;
  }

  /** Entries that mean nothing, and directions that lead back. */
  problems(): string[] {
    const unknown = this.places.flatMap(({ place, mayImport }) =>
      mayImport
        .filter((entry) => !entry.endsWith("/*") && this.placeOf(entry) === undefined)
        .map((entry) => `scripts/directions.ts: ${place} may import ${entry}, which is no place`),
    );
    const graph = new Map(
      this.places.map((from) => {
        const targets = this.places.filter((to) => from !== to && from.mayImport.some((one) => this.#covers(one, to)));
        return [from.place, new Set(targets.map((to) => to.place))];
      }),
    );
    const back = circlesOf(graph).map((circle) => `scripts/directions.ts: a circle is allowed: ${circle.join(", ")}`);
    return [...unknown, ...back];
  }
}

interface WrongImport {
  readonly path: string;
  readonly target: string;
  /** Where the target is. */
  readonly place: string;
}

function wrongImports(graph: Graph, directions: Directions): WrongImport[] {
  return [...graph].flatMap(([path, targets]) => {
    const from = directions.placeOf(path)!;
    return [...targets]
      .filter((target) => !directions.allows(from, target))
      .map((target) => ({ path, target, place: directions.placeOf(target)!.place }));
  });
}

function importProblems(wrong: readonly WrongImport[], known: KnownFaults): string[] {
  const fresh = wrong.filter(({ path, place }) => !known.imports[path]?.includes(place));
  const gone = Object.entries(known.imports).flatMap(([path, places]) =>
    places
      .filter((place) => !wrong.some((one) => one.path === path && one.place === place))
      .map((place) => `${path} > ${place}: a known import that is gone: run check-directions --update`),
  );
  return [
    ...fresh.map(({ path, target }) => `${path}: imports ${target}, which it may not (scripts/directions.ts)`),
    ...gone,
  ];
}

function circleProblems(circles: readonly (readonly string[])[], known: KnownFaults): string[] {
  const lists = Object.entries(known.circles);
  const fresh = circles.filter((circle) => !lists.some(([, list]) => circle.every((one) => list.includes(one))));
  const problems = fresh.map((circle) => `a circle: ${circle.join(", ")}`);
  for (const [name, list] of lists) {
    const left = new Set(circles.filter((circle) => circle.every((one) => list.includes(one))).flat());
    const gone = list.filter((one) => !left.has(one));
    if (gone.length > 0) {
      problems.push(`${name}: no longer in this known circle: run check-directions --update: ${gone.join(", ")}`);
    }
  }
  return problems;
}

function named(circles: readonly (readonly string[])[], known: KnownFaults): Record<string, readonly string[]> {
  const result: Record<string, readonly string[]> = {};
  for (const circle of circles) {
    const names = Object.entries(known.circles).filter(([, list]) => list.some((one) => circle.includes(one)));
    const name = names.map(([one]) => one).find((one) => !(one in result)) ?? `from ${circle[0]} on`;
    result[name] = circle;
  }
  return result;
}
