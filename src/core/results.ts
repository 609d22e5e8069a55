/** Turning the WORK record into the objects of the public interface. */
import { CODES, LEAF, STEP, Status, WORK } from "../abi/index.js";
import type { Fault, Leaf, Mapped, PagingMode, Rights, Translation, WalkStep } from "../api.js";
import type { LinearMemory } from "./linear-memory.js";
import { RecordType } from "./record.js";

export const workRecord = new RecordType(WORK);
export const leafRecord = new RecordType(LEAF);
const stepRecord = new RecordType(STEP);

/** Names of MODE_* codes, by code. */
export const MODES: readonly PagingMode[] = ["none", "32bit", "pae", "4level", "5level", "ept4", "ept5"];

function isEpt(mode: PagingMode): boolean {
  return mode === "ept4" || mode === "ept5";
}

/** log2 of the bytes that a leaf at `level` maps; level 0 stands for paging off. */
export function pageShift(mode: PagingMode, level: number): number {
  return 12 + Math.max(level - 1, 0) * (mode === "32bit" ? 10 : 9);
}

/** RIGHT_* bits as named rights: in EPT the user position is the read right. */
export function rightsOf(mode: PagingMode, bits: number): Rights {
  const ept = isEpt(mode);
  const execute = (bits & CODES.RIGHT_EXECUTE) !== 0;
  return {
    read: ept ? (bits & CODES.RIGHT_USER) !== 0 : true,
    write: (bits & CODES.RIGHT_WRITE) !== 0,
    user: ept ? true : (bits & CODES.RIGHT_USER) !== 0,
    execute,
    userExecute: ept ? (bits & CODES.RIGHT_USER_EXECUTE) !== 0 : execute,
  };
}

/** The result that the last walk left at `work`. `mode` is that of the space that was asked. */
export function readTranslation(linear: LinearMemory, work: number, mode: PagingMode, status: number): Translation {
  return status === Status.Ok ? readMapped(linear, work, mode) : readFault(linear, work, status);
}

function readMapped(linear: LinearMemory, work: number, mode: PagingMode): Mapped {
  const level = workRecord.get32(linear, work, "LEVEL");
  const entry = workRecord.get64(linear, work, "ENTRY");
  return {
    ok: true,
    status: Status.Ok,
    pa: workRecord.get64(linear, work, "PA"),
    gpa: workRecord.get64(linear, work, "GPA"),
    pageSize: 2 ** pageShift(mode, level),
    rights: rightsOf(mode, workRecord.get32(linear, work, "RIGHTS")),
    protectionKey: mode === "4level" || mode === "5level" ? Number((entry >> 59n) & 15n) : 0,
    global: !isEpt(mode) && (entry & 0x100n) !== 0n,
    memoryType: memoryTypeOf(mode, level, entry),
  };
}

/** EPT: bits 5:3; else the PAT index, whose high bit is bit 7 of a 4 KiB leaf and bit 12 of a larger one. */
function memoryTypeOf(mode: PagingMode, level: number, entry: bigint): number {
  if (isEpt(mode)) return Number((entry >> 3n) & 7n);
  const pat = (entry >> (level > 1 ? 12n : 7n)) & 1n;
  return Number((pat << 2n) | ((entry >> 3n) & 3n));
}

function readFault(linear: LinearMemory, work: number, status: number): Fault {
  return {
    ok: false,
    status,
    vector: status === Status.PageFault ? 14 : status === Status.NonCanonical ? 13 : undefined,
    errorCode: workRecord.get64(linear, work, "CODE"),
    address: workRecord.get64(linear, work, "ADDRESS"),
    stage: workRecord.get32(linear, work, "STAGE") === 0 ? "guest" : "second",
    level: workRecord.get32(linear, work, "LEVEL"),
    entryAddress: workRecord.get64(linear, work, "ENTRY_ADDRESS"),
    entry: workRecord.get64(linear, work, "ENTRY"),
  };
}

/** The entries that the last `explain` read. */
export function readSteps(linear: LinearMemory, work: number): WalkStep[] {
  const first = work + workRecord.offset("TRACE");
  return Array.from({ length: workRecord.get32(linear, work, "TRACE_COUNT") }, (_, index) => {
    const step = first + index * stepRecord.size;
    return {
      stage: stepRecord.get32(linear, step, "STAGE") === 0 ? "guest" : "second",
      level: stepRecord.get32(linear, step, "LEVEL"),
      address: stepRecord.get64(linear, step, "ADDRESS"),
      entry: stepRecord.get64(linear, step, "ENTRY"),
    };
  });
}

/** One LEAF record. */
export function readLeaf(linear: LinearMemory, record: number, mode: PagingMode): Leaf {
  const level = leafRecord.get32(linear, record, "LEVEL");
  return {
    va: leafRecord.get64(linear, record, "VA"),
    pa: leafRecord.get64(linear, record, "PA"),
    size: 1n << BigInt(pageShift(mode, level)),
    rights: rightsOf(mode, leafRecord.get32(linear, record, "RIGHTS")),
    entry: leafRecord.get64(linear, record, "ENTRY"),
    level,
  };
}
