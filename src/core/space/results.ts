/** Turning the WORK record into the objects of the public interface. */
import { CODES, Status } from "../../abi/index.js";
import type { Fault, Leaf, Mapped, PagingMode, Rights, Translation, WalkStep } from "../../api.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { type LeafRecord, StepRecord, WorkRecord } from "../records/walk.js";

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

/** The result that the last walk left in `work`. `mode` is that of the space that was asked. */
export function readTranslation(work: WorkRecord, mode: PagingMode, status: number): Translation {
  return status === Status.Ok ? readMapped(work, mode) : readFault(work, status);
}

function readMapped(work: WorkRecord, mode: PagingMode): Mapped {
  const { level, entry } = work;
  return {
    ok: true,
    status: Status.Ok,
    pa: work.pa,
    gpa: work.gpa,
    pageSize: 2 ** pageShift(mode, level),
    rights: rightsOf(mode, work.rights),
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

function readFault(work: WorkRecord, status: number): Fault {
  return {
    ok: false,
    status,
    vector: status === Status.PageFault ? 14 : status === Status.NonCanonical ? 13 : undefined,
    errorCode: work.code,
    address: work.address,
    stage: work.stage === 0 ? "guest" : "second",
    level: work.level,
    entryAddress: work.entryAddress,
    entry: work.entry,
  };
}

/** The entries that the last `explain` read. */
export function readSteps(linear: LinearMemory, work: WorkRecord): WalkStep[] {
  const first = work.at + WorkRecord.OFFSET.trace;
  return Array.from({ length: work.traceCount }, (_, index) => {
    const step = new StepRecord(linear, first + index * StepRecord.SIZE);
    return {
      stage: step.stage === 0 ? "guest" : "second",
      level: step.level,
      address: step.address,
      entry: step.entry,
    };
  });
}

/** What a LEAF record says. */
export function readLeaf({ va, pa, rights, entry, level }: LeafRecord, mode: PagingMode): Leaf {
  return { va, pa, size: 1n << BigInt(pageShift(mode, level)), rights: rightsOf(mode, rights), entry, level };
}
