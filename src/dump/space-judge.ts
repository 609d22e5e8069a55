/** Which of the pages that look like roots of one mode are spaces. Goes on where it was interrupted, for bytes that have to be fetched. */
import type { Dump } from "./dump.js";
import type { FoundSpace } from "./found-space.js";
import { usersRoot } from "./tables/isolation.js";
import { SelfMaps } from "./tables/self-maps.js";
import type { Mapped, TableReader } from "./tables/table-reader.js";

const PAGE = 4096;

/** What is found of each of a list, as far as it is known. */
type Known<T> = T[];

export class SpaceJudge {
  readonly #dump: Dump;
  readonly #reader: TableReader;
  readonly #kernelRoot: number;
  readonly #candidates: readonly number[];
  readonly #itself: SelfMaps;
  readonly #isRoot: Known<boolean> = [];
  readonly #targets: Known<readonly number[]> = [];
  readonly #parts: Known<string> = [];
  readonly #userRoots: Known<number | undefined> = [];
  readonly #found: Known<FoundSpace> = [];
  readonly #listed: Known<true> = [];

  constructor(dump: Dump, reader: TableReader, kernelRoot: number, candidates: readonly number[]) {
    this.#dump = dump;
    this.#reader = reader;
    this.#kernelRoot = kernelRoot;
    this.#candidates = candidates;
    this.#itself = new SelfMaps(reader, candidates);
  }

  /** Candidates of which it is not known, because the tables below them map too many of all. */
  get skipped(): number {
    return this.#itself.skipped;
  }

  spaces(): readonly FoundSpace[] {
    const reader = this.#reader;
    const isRoot = each(this.#candidates, this.#isRoot, (root) => reader.isRoot(root) && this.#itself.has(root));
    const roots = this.#candidates.filter((_, index) => isRoot[index]);
    const targets = each(roots, this.#targets, (root) => targetsOf(reader, root));
    // A table of one that has more levels looks like a root of this mode; so do those of a space that maps itself by one entry.
    const below = new Set(targets.flat());
    const tops = roots.filter((root, index) => !below.has(root) || targets[index]!.includes(root));
    const parts = each(tops, this.#parts, (root) => kernelPartOf(reader, root));
    const sharing = new Map<string, { first: number; count: number }>();
    for (const [index, part] of parts.entries()) {
      const one = sharing.get(part);
      if (one === undefined) sharing.set(part, { first: tops[index]!, count: 1 });
      else one.count++;
    }
    const known = new Set(this.#candidates);
    const userRoots = each(tops, this.#userRoots, (root) =>
      known.has(root + PAGE) ? usersRoot(reader, root) : undefined,
    );
    const found = each(tops, this.#found, (root, index) => {
      const { first, count } = sharing.get(parts[index]!)!;
      return this.#space(root, userRoots[index], first, count);
    });
    const users = new Set(userRoots);
    return found.filter((_, index) => !users.has(tops[index]!));
  }

  /** Adds the addresses of all tables of the spaces that `spaces` gave. */
  addTables(spaces: readonly FoundSpace[], tables: Set<number>): void {
    const roots = spaces.flatMap(({ root, userRoot }) => [root, ...(userRoot === undefined ? [] : [userRoot])]);
    each(roots, this.#listed, (root): true => {
      this.#reader.addTables(Number(root), tables);
      return true;
    });
  }

  #space(root: number, userRoot: number | undefined, first: number, shared: number): FoundSpace {
    const { kernelFrom, rootBytes, mode } = this.#reader.shape;
    const low = this.#reader.count(root, 0, kernelFrom);
    return {
      root: BigInt(root),
      mode,
      kind: low.user > 0 ? "process" : low.kernel === 0 ? "kernel" : "other",
      userRoot: userRoot === undefined ? undefined : BigInt(userRoot),
      mapped: this.#mapped(root, userRoot),
      cpus: this.#cpusOf([root, ...(userRoot === undefined ? [] : [userRoot])], rootBytes),
      isKernels: root === this.#kernelRoot,
      shared,
      kernelPart: BigInt(first),
    };
  }

  /** What the kernel's root maps; its user pages are executable by the users' root alone. */
  #mapped(root: number, userRoot: number | undefined): Mapped {
    const reader = this.#reader;
    const mapped = reader.count(root, 0, Number.MAX_SAFE_INTEGER);
    if (userRoot === undefined) return mapped;
    const { kernelFrom } = reader.shape;
    const above = reader.count(root, kernelFrom, Number.MAX_SAFE_INTEGER).writableExecutable;
    return { ...mapped, writableExecutable: above + reader.count(userRoot, 0, kernelFrom).writableExecutable };
  }

  #cpusOf(roots: readonly number[], rootBytes: number): number[] {
    return this.#dump.cpus.flatMap(({ cr3 }, number) => {
      const root = Number(cr3 % 2n ** 52n);
      return roots.includes(root - (root % rootBytes)) ? [number] : [];
    });
  }
}

/** What `find` finds of each, of those first that are not known yet: where it is interrupted, what is known stays. */
function each<T, V>(list: readonly T[], known: Known<V>, find: (one: T, index: number) => V): readonly V[] {
  while (known.length < list.length) known.push(find(list[known.length]!, known.length));
  return known;
}

/** What the kernel's part of a root is, as text; flags that processors set do not count. */
function kernelPartOf(reader: TableReader, root: number): string {
  const entries = reader.entriesOf(root);
  const part: string[] = [];
  for (let index = reader.shape.kernelFrom; index < entries.length / 2; index++) {
    const target = reader.target(entries, index);
    if (target !== -1) part.push(`${index}:${target}`);
  }
  return part.join(" ");
}

function targetsOf(reader: TableReader, root: number): number[] {
  const entries = reader.entriesOf(root);
  return Array.from({ length: entries.length / 2 }, (_, index) => reader.target(entries, index)).filter(
    (at) => at !== -1,
  );
}
