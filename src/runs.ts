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

/**
 * Merges leaves, given in ascending order, into runs; holds one run at a time. What `leaves` throws ends nothing: where it goes on
 * after that, so do the runs.
 */
export function mergeRuns(leaves: Iterable<Leaf>): IterableIterator<Run> {
  return new Runs(leaves[Symbol.iterator]());
}

class Runs implements IterableIterator<Run> {
  readonly #leaves: Iterator<Leaf>;
  #first: Leaf | undefined;
  #size = 0n;
  #ended = false;

  constructor(leaves: Iterator<Leaf>) {
    this.#leaves = leaves;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Run> {
    while (!this.#ended) {
      const { done, value: leaf } = this.#leaves.next();
      const first = this.#first;
      if (done) {
        this.#ended = true;
        if (first !== undefined) return { done: false, value: toRun(first, this.#size) };
        break;
      }
      if (first !== undefined && continues(first, this.#size, leaf)) {
        this.#size += leaf.size;
        continue;
      }
      const size = this.#size;
      this.#first = leaf;
      this.#size = leaf.size;
      if (first !== undefined) return { done: false, value: toRun(first, size) };
    }
    return { done: true, value: undefined };
  }

  return(): IteratorResult<Run> {
    this.#ended = true;
    this.#leaves.return?.();
    return { done: true, value: undefined };
  }
}

function continues(first: Leaf, size: bigint, leaf: Leaf): boolean {
  return (
    leaf.va === first.va + size &&
    leaf.pa === first.pa + size &&
    leaf.size === first.size &&
    sameRights(leaf.rights, first.rights)
  );
}

/** Whether two mappings grant the same. */
export function sameRights(a: Rights, b: Rights): boolean {
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
