/** What a core's memory holds: an oracle for leaks. */
import type { VirtualMachine } from "../../src/mmu/index.js";

/** Counts the bytes that are allocated and freed from now on; `undo` ends it. */
export function countAllocated(vm: VirtualMachine): { readonly bytes: number; undo(): void } {
  const { linear } = vm;
  const allocate = linear.allocate.bind(linear);
  const free = linear.free.bind(linear);
  let bytes = 0;
  linear.allocate = (size: number, alignment?: number) => {
    const address = allocate(size, alignment);
    bytes += size;
    return address;
  };
  linear.free = (address: number, size: number) => {
    free(address, size);
    bytes -= size;
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
