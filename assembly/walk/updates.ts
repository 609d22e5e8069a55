/** Setting accessed and dirty bits, once a whole access is known to succeed. */
import {
  UPDATE_BYTES, UPDATE_NEW, UPDATE_OLD, UPDATE_POINTER, UPDATE_SIZE_OF, WORK_UPDATES, WORK_UPDATE_COUNT,
} from "../abi/layout";

/**
 * Stores the updates that a walk left, each by compare-and-exchange. Returns false where an entry is not what the walk
 * read (another processor, or the same entry used at two levels): the walk is to be repeated then.
 */
export function applyUpdates(work: usize): bool {
  const count = load<u32>(work, WORK_UPDATE_COUNT);
  for (let i: u32 = 0; i < count; i++) {
    const update = work + WORK_UPDATES + i * UPDATE_SIZE_OF;
    const pointer = load<u32>(update, UPDATE_POINTER);
    if (pointer == 0) continue;
    const old = load<u64>(update, UPDATE_OLD);
    const updated = load<u64>(update, UPDATE_NEW);
    if (load<u32>(update, UPDATE_BYTES) == 4) {
      if (atomic.cmpxchg<u32>(pointer, <u32>old, <u32>updated) != <u32>old) return false;
    } else {
      if (atomic.cmpxchg<u64>(pointer, old, updated) != old) return false;
    }
  }
  return true;
}
