/** Listing every leaf of a space. */
import { CURSOR, Status } from "../abi/index.js";
import type { Leaf, PagingMode } from "../api.js";
import { MemoryRangeError } from "../errors.js";
import type { CoreExports } from "./exports.js";
import type { LinearMemory } from "./linear-memory.js";
import type { CoreMemory } from "./memory.js";
import { RecordType } from "./record.js";
import { leafRecord, readLeaf } from "./results.js";

const cursorRecord = new RecordType(CURSOR);
/** Leaves that one call into the core may list. */
const LEAF_BATCH = 1024;

/**
 * The leaves of the space whose SPACE record is at `pointer`, in ascending order. `requireLive` throws where the space is
 * gone: whoever takes a leaf, and the memory's source, may dispose of it.
 */
export function* enumerateLeaves(
  exports: CoreExports,
  memory: CoreMemory,
  { pointer, mode }: { readonly pointer: number; readonly mode: PagingMode },
  requireLive: () => void,
): IterableIterator<Leaf> {
  requireLive();
  const { linear } = memory;
  const cursor = linear.allocate(cursorRecord.size);
  const output = linear.allocate(LEAF_BATCH * leafRecord.size);
  try {
    exports.startEnumeration(pointer, cursor);
    while (cursorRecord.get32(linear, cursor, "LEVEL") !== 0) {
      const count = exports.enumerate(pointer, cursor, output, LEAF_BATCH);
      const status = cursorRecord.get32(linear, cursor, "STATUS");
      for (let index = 0; index < count; index++) {
        yield readLeaf(linear, output + index * leafRecord.size, mode);
        requireLive();
      }
      if (status === Status.MissingPage) {
        memory.supply(tableAt(linear, cursor).address >> 12n);
        requireLive();
      } else if (status !== Status.Ok) throwTableOutside(linear, cursor);
    }
  } finally {
    linear.free(output, LEAF_BATCH * leafRecord.size);
    linear.free(cursor, cursorRecord.size);
  }
}

/** The table that the enumeration stands at. */
function tableAt(linear: LinearMemory, cursor: number): { level: number; address: bigint } {
  const level = cursorRecord.get32(linear, cursor, "LEVEL");
  return { level, address: cursorRecord.get64(linear, cursor, "TABLE", level) };
}

function throwTableOutside(linear: LinearMemory, cursor: number): never {
  const { level, address } = tableAt(linear, cursor);
  throw new MemoryRangeError(`the level-${level} table at 0x${address.toString(16)} lies outside the memory`);
}
