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
  /** A file, and the place that it may not import. */
  readonly imports: readonly (readonly [file: string, place: string])[];
}

export interface Judgement {
  readonly problems: readonly string[];
  readonly filesRead: number;
}

export function judgeDirections(sources: Sources, places: readonly Place[], known: KnownFaults): Judgement {
  const { graph, problems: missing } = fileGraph(sources);
  const directions = new Directions(places);
  const homeless = [...graph.keys()].filter((path) => directions.placeOf(path) === undefined);
  if (homeless.length > 0) {
    const problems = homeless.map((path) => `${path}: its folder has no place in scripts/directions.ts`);
    return { problems: [...missing, ...problems], filesRead: sources.files.length };
  }
  const placeOf = (path: string) => directions.placeOf(path)!.place;
  const circles = [...circlesOf(graph), ...circlesOf(grouped(graph, placeOf))];
  const problems = [
    ...missing,
    ...directions.problems(),
    ...wrongImports(graph, directions, known),
    ...wrongCircles(circles, known),
  ];
  return { problems, filesRead: sources.files.length };
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

function wrongImports(graph: Graph, directions: Directions, known: KnownFaults): string[] {
  const open = new Set(known.imports.map((pair) => pair.join(" > ")));
  const problems: string[] = [];
  for (const [path, targets] of graph) {
    const from = directions.placeOf(path)!;
    for (const target of targets) {
      if (directions.allows(from, target)) continue;
      const { place } = directions.placeOf(target)!;
      open.delete(`${path} > ${place}`);
      if (known.imports.some(([file, to]) => file === path && to === place)) continue;
      problems.push(`${path}: imports ${target}, which ${from.place} may not (scripts/directions.ts)`);
    }
  }
  return [...problems, ...[...open].map((pair) => `${pair}: a known import that is gone: take it off the list`)];
}

function wrongCircles(circles: readonly (readonly string[])[], known: KnownFaults): string[] {
  const lists = Object.entries(known.circles);
  const fresh = circles.filter((circle) => !lists.some(([, list]) => circle.every((one) => list.includes(one))));
  const problems = fresh.map((circle) => `a circle: ${circle.join(", ")}`);
  for (const [name, list] of lists) {
    const left = new Set(circles.filter((circle) => circle.every((one) => list.includes(one))).flat());
    const gone = list.filter((one) => !left.has(one));
    if (gone.length > 0)
      problems.push(`${name}: no longer in this known circle, take off the list: ${gone.join(", ")}`);
  }
  return problems;
}
