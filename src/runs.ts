/** Contiguous runs of mappings: what people mean by a mapping. */
import type { Leaf, Rights } from "./api.js";

/** Leaves that follow each other in linear and in physical memory with equal rights and page size. */
export interface Run {
  /** First linear address. */
  readonly va: bigint;
  /** First physical address. */
  readonly pa: bigint;
  /** Size in bytes. */
  readonly size: bigint;
  /** Page size in bytes. */
  readonly pageSize: bigint;
  readonly rights: Rights;
}

/** Merges leaves, given in ascending order, into runs; holds one run at a time. */
export function* mergeRuns(leaves: Iterable<Leaf>): IterableIterator<Run> {
  let first: Leaf | undefined;
  let size = 0n;
  for (const leaf of leaves) {
    if (first !== undefined && continues(first, size, leaf)) {
      size += leaf.size;
      continue;
    }
    if (first !== undefined) yield toRun(first, size);
    first = leaf;
    size = leaf.size;
  }
  if (first !== undefined) yield toRun(first, size);
}

function continues(first: Leaf, size: bigint, leaf: Leaf): boolean {
  return (
    leaf.va === first.va + size &&
    leaf.pa === first.pa + size &&
    leaf.size === first.size &&
    sameRights(leaf.rights, first.rights)
  );
}

function sameRights(a: Rights, b: Rights): boolean {
  return (
    a.read === b.read &&
    a.write === b.write &&
    a.user === b.user &&
    a.execute === b.execute &&
    a.userExecute === b.userExecute
  );
}

function toRun(first: Leaf, size: bigint): Run {
  return { va: first.va, pa: first.pa, size, pageSize: first.size, rights: first.rights };
}
