/** Memory dumps as random-access guest-physical memory. Nothing here needs Node; see node.ts and browser.ts for files. */
export { type ByteSource, MemoryByteSource } from "./byte-source.js";
export type { Dump, DumpCpu, DumpFact, DumpFormat, DumpMachine } from "./dump.js";
export { DumpError, InflationLimitError } from "./errors.js";
export type { MemoryRange } from "./extents.js";
export { listAsync } from "./listing.js";
export { type OpenDumpOptions, openDump } from "./open.js";
export { type DumpRegisters, type RegisterOverrides, registersFromDump } from "./registers.js";
export { SparseStore } from "./sparse-store.js";
