/** Memory that runs out at a chosen allocation: it and all after it fail. */

import type { LinearMemory } from "../../src/core/linear/linear-memory.js";
import { OutOfMemoryError } from "../../src/index.js";

const MOST_FAILURES = 10_000;

/** Makes the allocation that many from now fail, and those after it; returns how to undo that, and whether it happened. */
export function failAfter(
  guest: { vm: { state: { core: { internals: { readonly linear: LinearMemory } } } } },
  count: number,
): { undo(): void; hit(): boolean } {
  const { linear } = guest.vm.state.core.internals;
  const allocate = linear.allocate.bind(linear);
  let left = count;
  let failed = false;
  linear.allocate = (size: number, alignment?: number) => {
    if (left-- <= 0) {
      failed = true;
      // Whoever tries again and again would do so for ever.
      if (left < -MOST_FAILURES) throw new RangeError("an allocation that fails is tried without end");
      throw new OutOfMemoryError("injected");
    }
    return allocate(size, alignment);
  };
  return {
    undo: () => {
      Reflect.deleteProperty(linear, "allocate");
    },
    hit: () => failed,
  };
}
