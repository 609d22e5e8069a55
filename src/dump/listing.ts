/** Listings of what is read asynchronously. */
import type { WebAbortSignal } from "../platform.js";

/** Elements that are collected before the caller gets them. */
const CHUNK = 256;

/**
 * The elements of `listing` (`space.leaves()`, `space.mappings()`), over a source whose bytes have to be fetched: `fetching` is that
 * of `openDumpAsync`, or another function that calls `operation` again when what it threw for is there. The listing goes on
 * where it stood, however often that is. With a `signal` that is aborted it throws the signal's reason.
 */
export async function* listAsync<T>(
  listing: Iterator<T>,
  fetching: (operation: () => void) => Promise<void>,
  { signal }: { readonly signal?: WebAbortSignal } = {},
): AsyncIterableIterator<T> {
  const aborting = signal as AbortSignal | undefined;
  let chunk: T[] = [];
  let ended = false;
  const collect = () => {
    while (!ended && chunk.length < CHUNK) {
      const { done, value } = listing.next();
      if (done) ended = true;
      else chunk.push(value);
    }
  };
  try {
    while (!ended) {
      aborting?.throwIfAborted();
      await fetching(collect);
      yield* chunk;
      chunk = [];
    }
  } finally {
    listing.return?.();
  }
}
