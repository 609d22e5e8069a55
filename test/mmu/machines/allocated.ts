/** What a core's memory holds: an oracle for leaks. */
import type { LinearMemory } from "../../../src/core/linear/linear-memory.js";

/** Counts the bytes that are allocated and freed from now on; `undo` ends it. */
export function countAllocated({ linear }: { readonly linear: LinearMemory }): {
  readonly bytes: number;
  undo(): void;
} {
  const allocate = linear.allocate.bind(linear);
  const free = linear.free.bind(linear);
  let bytes = 0;
  // What growing adds is freed inside of an allocation.
  let inside = false;
  linear.allocate = (size: number, alignment?: number) => {
    if (inside) return allocate(size, alignment);
    inside = true;
    try {
      const address = allocate(size, alignment);
      bytes += size;
      return address;
    } finally {
      inside = false;
    }
  };
  linear.free = (address: number, size: number) => {
    free(address, size);
    if (!inside) bytes -= size;
  };
  return {
    get bytes() {
      return bytes;
    },
    undo: () => {
      Reflect.deleteProperty(linear, "allocate");
      Reflect.deleteProperty(linear, "free");
    },
  };
}
