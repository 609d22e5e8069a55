/** Memory that runs out at a chosen allocation: it and all after it fail. */

import type { LinearMemory } from "../../src/core/linear/linear-memory.js";
import { OutOfMemoryError } from "../../src/index.js";

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
