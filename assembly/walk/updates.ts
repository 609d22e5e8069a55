/** Setting accessed and dirty bits, once the translation that uses the entries is known to succeed. */
import {
  UPDATE_BYTES,
  UPDATE_NEW,
  UPDATE_OLD,
  UPDATE_POINTER,
  UPDATE_SIZE_OF,
  WORK_UPDATES,
  WORK_UPDATE_COUNT,
} from "../abi/layout";

/**
 * Stores the updates that a walk left from number `first` on, each by compare-and-exchange. Returns false, with nothing
 * stored, where an entry is not what the walk read: another processor changed it, or it is an entry of both stages and
 * the second one has marked it since. The walk is to be repeated then.
 */
export function applyUpdates(work: usize, first: u32): bool {
  const from = work + WORK_UPDATES + first * UPDATE_SIZE_OF;
  const end = work + WORK_UPDATES + load<u32>(work, WORK_UPDATE_COUNT) * UPDATE_SIZE_OF;
  for (let update = from; update < end; update += UPDATE_SIZE_OF) {
    if (load<u32>(update, UPDATE_POINTER) != 0 && !isAsRead(update, current(update))) return false;
  }
  for (let update = from; update < end; update += UPDATE_SIZE_OF) {
    if (load<u32>(update, UPDATE_POINTER) != 0 && !apply(update)) return false;
  }
  return true;
}

/** Another walk, or this one by the same entry at another level, may have set wanted bits before: no decision hangs on them. */
// @ts-ignore: decorator
@inline function isAsRead(update: usize, value: u64): bool {
  const wanted = load<u64>(update, UPDATE_OLD) ^ load<u64>(update, UPDATE_NEW);
  return (value | wanted) == load<u64>(update, UPDATE_NEW);
}

function current(update: usize): u64 {
  const pointer = load<u32>(update, UPDATE_POINTER);
  return load<u32>(update, UPDATE_BYTES) == 4 ? <u64>atomic.load<u32>(pointer) : atomic.load<u64>(pointer);
}

function apply(update: usize): bool {
  const updated = load<u64>(update, UPDATE_NEW);
  let expected = load<u64>(update, UPDATE_OLD);
  while (true) {
    const found = exchange(update, expected, updated);
    if (found == expected) return true;
    if (!isAsRead(update, found)) return false;
    expected = found;
  }
}

/** What the entry held; it holds `updated` now if that was `expected`. */
// @ts-ignore: decorator
@inline function exchange(update: usize, expected: u64, updated: u64): u64 {
  const pointer = load<u32>(update, UPDATE_POINTER);
  if (load<u32>(update, UPDATE_BYTES) == 4) return <u64>atomic.cmpxchg<u32>(pointer, <u32>expected, <u32>updated);
  return atomic.cmpxchg<u64>(pointer, expected, updated);
}
