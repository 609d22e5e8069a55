/** Writing a walk's result, the entries it read and the updates it wants into the Work record. */
import { NOT_READ, STATUS_MISSING_PAGE, STATUS_OUTSIDE_MEMORY, WORK_CAPACITY } from "../abi/codes";
import { Work } from "../abi/records";

/** Records what the first stage found: `address` is where it leads, before any second stage. */
export function setGuestLeaf(work: Work, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): void {
  work.gpa = address;
  work.pa = address;
  work.rights = rights;
  setEntry(work, 0, level, entryAddress, entry);
}

/** Records what a second-stage walk found. */
export function setSecondLeaf(work: Work, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): void {
  work.secondPa = address;
  work.secondRights = rights;
  work.secondLevel = level;
  work.secondEntryAddress = entryAddress;
  work.secondEntry = entry;
}

/** Makes the second stage's result the walk's own: for a space that is used without a first stage. */
export function promoteSecondLeaf(work: Work): void {
  const address = work.secondPa;
  work.gpa = address;
  work.pa = address;
  work.rights = work.secondRights;
  setEntry(work, 1, work.secondLevel, work.secondEntryAddress, work.secondEntry);
}

function setEntry(work: Work, stage: u32, level: u32, entryAddress: u64, entry: u64): void {
  work.stage = stage;
  work.level = level;
  work.entryAddress = entryAddress;
  work.entry = entry;
}

/** Records a failure and returns its status. */
export function fail(
  work: Work,
  status: u32,
  code: u64,
  address: u64,
  stage: u32,
  level: u32,
  entryAddress: u64,
  entry: u64,
): u32 {
  setEntry(work, stage, level, entryAddress, entry);
  work.code = code;
  work.address = address;
  return status;
}

/** The status for an entry that could not be read: `pointer` is NOT_READ or NO_MEMORY. */
export function failUnread(
  work: Work,
  pointer: u32,
  hostAddress: u64,
  address: u64,
  stage: u32,
  level: u32,
  entryAddress: u64,
): u32 {
  if (pointer == NOT_READ) {
    work.missingGfn = hostAddress >> 12;
    work.code = 0;
    return STATUS_MISSING_PAGE;
  }
  return fail(work, STATUS_OUTSIDE_MEMORY, 0, address, stage, level, entryAddress, 0);
}

/** Appends an entry to the trace. */
export function trace(work: Work, stage: u32, level: u32, address: u64, entry: u64): void {
  const count = work.traceCount;
  if (count >= WORK_CAPACITY) return;
  const step = work.trace(count);
  step.address = address;
  step.entry = entry;
  step.level = level;
  step.stage = stage;
  work.traceCount = count + 1;
}

/** Appends an entry whose accessed or dirty bit is to be set once the whole access has succeeded. */
export function wantUpdate(work: Work, pointer: u32, bytes: u32, address: u64, old: u64, updated: u64): void {
  const count = work.updateCount;
  assert(count < WORK_CAPACITY);
  const update = work.updates(count);
  update.pointer = pointer;
  update.bytes = bytes;
  update.old = old;
  update.new = updated;
  update.address = address;
  work.updateCount = count + 1;
}
