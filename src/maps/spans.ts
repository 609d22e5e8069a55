/** Mappings that follow each other in both memories, as one. */
import type { Leaf } from "../api.js";
import { sameRights } from "../runs.js";

/** Leaves that follow each other in virtual and in physical memory, of equal rights and size. */
export interface Span {
  /** The one with the lowest address. */
  readonly first: Leaf;
  /** Bytes. */
  readonly size: bigint;
  /** Number of leaves. */
  readonly pages: number;
}

/** Whether two leaves with equal rights may be in one span, though they follow each other. */
export type Alike = (first: Leaf, next: Leaf) => boolean;

/**
 * Merges leaves, given in ascending order, that follow each other in virtual and in physical memory with equal rights and page size, as
 * `mergeRuns` does. `alike` parts what differs in something else. What `leaves` throws ends nothing: where it goes on after that, so do
 * the spans.
 */
export function spansOf(leaves: Iterable<Leaf>, alike: Alike = () => true): IterableIterator<Span> {
  const source = leaves[Symbol.iterator]();
  let span: Span | undefined;
  let ended = false;
  const take = (next: Span | undefined): IteratorResult<Span> => {
    const whole = span;
    span = next;
    return whole === undefined ? { done: true, value: undefined } : { done: false, value: whole };
  };
  return {
    [Symbol.iterator]() {
      return this;
    },
    next() {
      while (!ended) {
        const { done, value: leaf } = source.next();
        if (done) {
          ended = true;
          break;
        }
        const next = { first: leaf, size: leaf.size, pages: 1 };
        if (span === undefined) span = next;
        else if (follows(span, leaf) && alike(span.first, leaf)) {
          span = { first: span.first, size: span.size + leaf.size, pages: span.pages + 1 };
        } else return take(next);
      }
      return take(undefined);
    },
    return() {
      ended = true;
      span = undefined;
      source.return?.();
      return { done: true, value: undefined };
    },
  };
}

function follows({ first, size }: Span, leaf: Leaf): boolean {
  return (
    leaf.va === first.va + size &&
    leaf.pa === first.pa + size &&
    leaf.size === first.size &&
    sameRights(leaf.rights, first.rights)
  );
}
