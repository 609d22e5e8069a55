/** Listing every leaf of a space. */
import { Status } from "../../abi/index.js";
import type { Leaf, PagingMode } from "../../api.js";
import { ConfigError, MemoryRangeError } from "../../errors.js";
import type { CoreMemory } from "../memory/memory.js";
import { CursorRecord, LeafRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { readLeaf } from "./results.js";

/** Leaves that one call into the core may list. */
const LEAF_BATCH = 1024;

/**
 * The leaves of the space whose SPACE record is at `pointer`, in ascending order. `requireLive` throws where the space is
 * gone: whoever takes a leaf, and the memory's source, may dispose of it. Throws ConfigError where they change its paging mode
 * or its memory.
 */
export function* enumerateLeaves(
  exports: CoreExports,
  space: { readonly pointer: number; readonly mode: PagingMode; readonly memory: CoreMemory },
  requireLive: () => void,
): IterableIterator<Leaf> {
  requireLive();
  const { pointer, mode, memory } = space;
  // The cursor's levels are those of the mode, its pointers those of the memory.
  const requireMode = () => {
    requireLive();
    if (space.memory !== memory)
      throw new ConfigError("the space was given another memory while its tables were listed");
    if (space.mode !== mode) throw new ConfigError(`the mode became ${space.mode} while ${mode} tables were listed`);
  };
  const { linear } = memory;
  const cursor = new CursorRecord(linear, linear.allocate(CursorRecord.SIZE));
  const output = linear.allocate(LEAF_BATCH * LeafRecord.SIZE);
  const leaf = new LeafRecord(linear, output);
  try {
    exports.startEnumeration(pointer, cursor.at);
    while (cursor.level !== 0) {
      const count = exports.enumerate(pointer, cursor.at, output, LEAF_BATCH);
      const { status } = cursor;
      for (let index = 0; index < count; index++) {
        leaf.at = output + index * LeafRecord.SIZE;
        yield readLeaf(leaf, mode);
        requireMode();
      }
      // The table that the enumeration stands at.
      const address = cursor.table(cursor.level);
      if (status === Status.MissingPage) {
        memory.supply(address >> 12n);
        requireMode();
      } else if (status !== Status.Ok) {
        throw new MemoryRangeError(
          `the level-${cursor.level} table at 0x${address.toString(16)} lies outside the memory`,
        );
      }
    }
  } finally {
    linear.free(output, LEAF_BATCH * LeafRecord.SIZE);
    linear.free(cursor.at, CursorRecord.SIZE);
  }
}
