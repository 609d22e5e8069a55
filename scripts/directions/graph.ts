/** Which file imports which, and the circles in that. */
import { posix } from "node:path";
import { importsIn } from "./imports.js";
import { BUILT, type Sources } from "./sources.js";

/** From each node to those it points to; every target is a key, too. */
export type Graph = ReadonlyMap<string, ReadonlySet<string>>;

export interface FileGraph {
  readonly graph: Graph;
  /** Imports of files that are not there. */
  readonly problems: readonly string[];
}

/** Imports of the repository's own files; packages and Node's modules are nobody's direction. */
export function fileGraph(sources: Sources): FileGraph {
  const known = new Set([...sources.files, ...BUILT]);
  const graph = new Map<string, Set<string>>(BUILT.map((path) => [path, new Set()]));
  const problems: string[] = [];
  for (const path of sources.files) {
    const targets = new Set<string>();
    graph.set(path, targets);
    for (const named of importsIn(path, sources.read(path))) {
      if (!named.startsWith(".")) continue;
      // Styles and files that are served as they are: no modules.
      if (/\.css$|\?url$/.test(named)) continue;
      const target = candidates(path, named).find((one) => known.has(one));
      if (target === undefined) problems.push(`${path}: imports ${named}, which is no file`);
      else targets.add(target);
    }
  }
  return { graph, problems };
}

/**
 * Files that `named` in `path` can mean: assembly leaves out the ending, what is built to dist lies in src, and a module of
 * another language is known by its declarations.
 */
function candidates(path: string, named: string): string[] {
  const target = posix.join(posix.dirname(path), named).replace(/^dist\//, "src/");
  if (path.startsWith("assembly/")) return [`${target}.ts`, `${target}/index.ts`];
  return [target, target.replace(/\.js(x?)$/, ".ts$1"), target.replace(/\.(\w+)$/, ".d.$1.ts")];
}

/** The graph of what `nameOf` calls the nodes; a name does not point to itself. */
export function grouped(graph: Graph, nameOf: (node: string) => string): Graph {
  const groups = new Map<string, Set<string>>();
  for (const [node, targets] of graph) {
    const name = nameOf(node);
    const joined = groups.get(name) ?? new Set<string>();
    groups.set(name, joined);
    for (const target of targets) if (nameOf(target) !== name) joined.add(nameOf(target));
  }
  return groups;
}

/** The groups of nodes that reach each other (strongly connected components of two or more), each sorted. */
export function circlesOf(graph: Graph): string[][] {
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const open: string[] = [];
  const circles: string[][] = [];
  const enter = (node: string): number => {
    const place = order.size;
    order.set(node, place);
    open.push(node);
    let low = place;
    for (const target of graph.get(node)!) {
      if (!order.has(target)) low = Math.min(low, enter(target));
      else if (!lowest.has(target)) low = Math.min(low, order.get(target)!);
    }
    if (low === place) {
      const group = open.splice(open.indexOf(node));
      for (const one of group) lowest.set(one, low);
      if (group.length > 1 || graph.get(node)!.has(node)) circles.push(group.sort());
    }
    return low;
  };
  for (const node of graph.keys()) if (!order.has(node)) enter(node);
  return circles.sort((a, b) => (a[0]! < b[0]! ? -1 : 1));
}
