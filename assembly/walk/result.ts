/** Writing a walk's result, the entries it read and the updates it wants into the WORK record. */
import {
  STEP_ADDRESS,
  STEP_ENTRY,
  STEP_LEVEL,
  STEP_SIZE_OF,
  STEP_STAGE,
  UPDATE_ADDRESS,
  UPDATE_BYTES,
  UPDATE_NEW,
  UPDATE_OLD,
  UPDATE_POINTER,
  UPDATE_SIZE_OF,
  WORK_ADDRESS,
  WORK_CODE,
  WORK_ENTRY,
  WORK_ENTRY_ADDRESS,
  WORK_GPA,
  WORK_LEVEL,
  WORK_MISSING_GFN,
  WORK_PA,
  WORK_RIGHTS,
  WORK_SECOND_ENTRY,
  WORK_SECOND_ENTRY_ADDRESS,
  WORK_SECOND_LEVEL,
  WORK_SECOND_PA,
  WORK_SECOND_RIGHTS,
  WORK_STAGE,
  WORK_TRACE,
  WORK_TRACE_COUNT,
  WORK_UPDATES,
  WORK_UPDATE_COUNT,
} from "../abi/layout";
import { NOT_READ, STATUS_MISSING_PAGE, STATUS_OUTSIDE_MEMORY, WORK_CAPACITY } from "../abi/codes";

/** Records what the first stage found: `address` is where it leads, before any second stage. */
export function setGuestLeaf(work: usize, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): void {
  store<u64>(work, address, WORK_GPA);
  store<u64>(work, address, WORK_PA);
  store<u32>(work, rights, WORK_RIGHTS);
  setEntry(work, 0, level, entryAddress, entry);
}

/** Records what a second-stage walk found. */
export function setSecondLeaf(work: usize, address: u64, rights: u32, level: u32, entryAddress: u64, entry: u64): void {
  store<u64>(work, address, WORK_SECOND_PA);
  store<u32>(work, rights, WORK_SECOND_RIGHTS);
  store<u32>(work, level, WORK_SECOND_LEVEL);
  store<u64>(work, entryAddress, WORK_SECOND_ENTRY_ADDRESS);
  store<u64>(work, entry, WORK_SECOND_ENTRY);
}

/** Makes the second stage's result the walk's own: for a space that is used without a first stage. */
export function promoteSecondLeaf(work: usize): void {
  const address = load<u64>(work, WORK_SECOND_PA);
  store<u64>(work, address, WORK_GPA);
  store<u64>(work, address, WORK_PA);
  store<u32>(work, load<u32>(work, WORK_SECOND_RIGHTS), WORK_RIGHTS);
  setEntry(
    work,
    1,
    load<u32>(work, WORK_SECOND_LEVEL),
    load<u64>(work, WORK_SECOND_ENTRY_ADDRESS),
    load<u64>(work, WORK_SECOND_ENTRY),
  );
}

function setEntry(work: usize, stage: u32, level: u32, entryAddress: u64, entry: u64): void {
  store<u32>(work, stage, WORK_STAGE);
  store<u32>(work, level, WORK_LEVEL);
  store<u64>(work, entryAddress, WORK_ENTRY_ADDRESS);
  store<u64>(work, entry, WORK_ENTRY);
}

/** Records a failure and returns its status. */
export function fail(
  work: usize,
  status: u32,
  code: u64,
  address: u64,
  stage: u32,
  level: u32,
  entryAddress: u64,
  entry: u64,
): u32 {
  setEntry(work, stage, level, entryAddress, entry);
  store<u64>(work, code, WORK_CODE);
  store<u64>(work, address, WORK_ADDRESS);
  return status;
}

/** The status for an entry that could not be read: `pointer` is NOT_READ or NO_MEMORY. */
export function failUnread(
  work: usize,
  pointer: u32,
  hostAddress: u64,
  address: u64,
  stage: u32,
  level: u32,
  entryAddress: u64,
): u32 {
  if (pointer == NOT_READ) {
    store<u64>(work, hostAddress >> 12, WORK_MISSING_GFN);
    store<u64>(work, 0, WORK_CODE);
    return STATUS_MISSING_PAGE;
  }
  return fail(work, STATUS_OUTSIDE_MEMORY, 0, address, stage, level, entryAddress, 0);
}

/** Appends an entry to the trace. */
export function trace(work: usize, stage: u32, level: u32, address: u64, entry: u64): void {
  const count = load<u32>(work, WORK_TRACE_COUNT);
  if (count >= WORK_CAPACITY) return;
  const step = work + WORK_TRACE + count * STEP_SIZE_OF;
  store<u64>(step, address, STEP_ADDRESS);
  store<u64>(step, entry, STEP_ENTRY);
  store<u32>(step, level, STEP_LEVEL);
  store<u32>(step, stage, STEP_STAGE);
  store<u32>(work, count + 1, WORK_TRACE_COUNT);
}

/** Appends an entry whose accessed or dirty bit is to be set once the whole access has succeeded. */
export function wantUpdate(work: usize, pointer: u32, bytes: u32, address: u64, old: u64, updated: u64): void {
  const count = load<u32>(work, WORK_UPDATE_COUNT);
  assert(count < WORK_CAPACITY);
  const update = work + WORK_UPDATES + count * UPDATE_SIZE_OF;
  store<u32>(update, pointer, UPDATE_POINTER);
  store<u32>(update, bytes, UPDATE_BYTES);
  store<u64>(update, old, UPDATE_OLD);
  store<u64>(update, updated, UPDATE_NEW);
  store<u64>(update, address, UPDATE_ADDRESS);
  store<u32>(work, count + 1, WORK_UPDATE_COUNT);
}
