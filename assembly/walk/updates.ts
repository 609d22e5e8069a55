/** Setting accessed and dirty bits, once the translation that uses the entries is known to succeed. */
import { Update, Work } from "../abi/records";
import { noteWrite } from "../memory/watch";

/**
 * Stores the updates that a walk left from number `first` on, each by compare-and-exchange. Returns false, with nothing
 * stored, where an entry is not what the walk read: another processor changed it, or it is an entry of both stages and
 * the second one has marked it since. The walk is to be repeated then.
 */
export function applyUpdates(work: Work, first: u32): bool {
  const from = changetype<usize>(work.updates(first));
  const end = changetype<usize>(work.updates(work.updateCount));
  const watch = work.watch;
  for (let at = from; at < end; at += Update.SIZE) {
    const update = changetype<Update>(at);
    if (update.pointer != 0 && !isAsRead(update, current(update))) return false;
  }
  for (let at = from; at < end; at += Update.SIZE) {
    const update = changetype<Update>(at);
    const pointer = update.pointer;
    if (pointer == 0) continue;
    if (!apply(update)) return false;
    if (watch.map != 0) noteWrite(watch, pointer);
  }
  return true;
}

/** Another walk, or this one by the same entry at another level, may have set wanted bits before: no decision hangs on them. */
// @ts-ignore: decorator
@inline function isAsRead(update: Update, value: u64): bool {
  const wanted = update.old ^ update.new;
  return (value | wanted) == update.new;
}

function current(update: Update): u64 {
  const pointer = update.pointer;
  return update.bytes == 4 ? <u64>atomic.load<u32>(pointer) : atomic.load<u64>(pointer);
}

function apply(update: Update): bool {
  const updated = update.new;
  let expected = update.old;
  while (true) {
    const found = exchange(update, expected, updated);
    if (found == expected) return true;
    if (!isAsRead(update, found)) return false;
    expected = found;
  }
}

// @ts-ignore: decorator
@inline function exchange(update: Update, expected: u64, updated: u64): u64 {
  return exchangeEntry(update.pointer, update.bytes, expected, updated);
}

/**
 * The processor's locked update of an entry of 4 or 8 bytes, wherever accessed and dirty bits are set. Returns what the entry
 * held; it holds `updated` now if that was `expected`.
 */
export function exchangeEntry(pointer: usize, bytes: u32, expected: u64, updated: u64): u64 {
  if (bytes == 4) return <u64>atomic.cmpxchg<u32>(pointer, <u32>expected, <u32>updated);
  return atomic.cmpxchg<u64>(pointer, expected, updated);
}
