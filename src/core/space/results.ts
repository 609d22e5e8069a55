/** Turning the WORK record into the objects of the public interface. */
import { bitOf, CODES, EPT, fieldOf, PDE4M, PTE, Status, valueIn } from "../../abi/index.js";
import type { Fault, Mapped, PagingMode, Rights, Translation, WalkStep } from "../../api.js";
import { vectorOf } from "../access/fault-number.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { StepRecord, WORK_OFFSET, type WorkRecord } from "../records/walk.js";

const PKEY = fieldOf(PTE, "PKEY");
const GLOBAL = bitOf(PTE, "G");
const MEMTYPE = fieldOf(EPT, "MEMTYPE");
/** A PAT index is PAT, PCD and PWT; PAT stands where a larger page has PS. */
const PAT_SMALL = bitOf(PTE, "PS");
const PAT_LARGE = bitOf(PDE4M, "PAT");
const PAT_LOW = bitOf(PTE, "PWT") | bitOf(PTE, "PCD");
const PAT_SHIFT = BigInt(fieldOf(PTE, "PWT").low);
const PAT_HIGH = 4n;

/** Names of MODE_* codes, by code. */
export const MODES: readonly PagingMode[] = ["none", "32bit", "pae", "4level", "5level", "ept4", "ept5"];

function isEpt(mode: PagingMode): boolean {
  return mode === "ept4" || mode === "ept5";
}

/** log2 of the bytes that a leaf at `level` maps; level 0 stands for paging off. */
export function pageShift(mode: PagingMode, level: number): number {
  return 12 + Math.max(level - 1, 0) * levelBits(mode);
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
    protectionKey: mode === "4level" || mode === "5level" ? Number(valueIn(PKEY, entry)) : 0,
    global: !isEpt(mode) && (entry & GLOBAL) !== 0n,
    memoryType: memoryTypeOf(mode, level, entry),
  };
}

/** EPT: bits 5:3; else the PAT index, whose high bit is bit 7 of a 4 KiB leaf and bit 12 of a larger one. */
export function memoryTypeOf(mode: PagingMode, level: number, entry: bigint): number {
  if (isEpt(mode)) return Number(valueIn(MEMTYPE, entry));
  const high = (entry & (level > 1 ? PAT_LARGE : PAT_SMALL)) === 0n ? 0n : PAT_HIGH;
  return Number(high | ((entry & PAT_LOW) >> PAT_SHIFT));
}

function readFault(work: WorkRecord, status: number): Fault {
  return {
    ok: false,
    status,
    vector: vectorOf(status),
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
  const first = work.at + WORK_OFFSET.trace;
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

/** Address bits that a level of tables translates. */
export function levelBits(mode: PagingMode): number {
  return mode === "32bit" ? 10 : 9;
}

/** By level: bytes that a leaf maps; 0 for level 0. */
export function leafSizes(mode: PagingMode): readonly bigint[] {
  return [0, 1, 2, 3].map((level) => (level === 0 ? 0n : 1n << BigInt(pageShift(mode, level))));
}

/** By RIGHT_* bits: named rights that many leaves have in common. */
export function sharedRights(mode: PagingMode): readonly Rights[] {
  return Array.from({ length: 16 }, (_, bits) => Object.freeze(rightsOf(mode, bits)));
}
