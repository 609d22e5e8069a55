/** Memory access through an address space, as the package shows it. */
export { FastAccess, NO_MEMORY } from "./fast-access.js";
export { decodeFault } from "./fault-number.js";
export type {
  AccessDone,
  AccessFailure,
  CopyResult,
  FaultFailure,
  MemoryFailure,
  RangeFault,
  RangeRun,
  ReadResult,
  TextResult,
  ValueResult,
} from "./results.js";
export { SpaceMemory } from "./space-memory.js";
