/** Memory dumps as random-access guest-physical memory. Nothing here needs Node; see node.ts and browser.ts for files. */
export { type ByteSource, MemoryByteSource } from "./bytes/byte-source.js";
export { CodecsNeededError, DumpError, InflationLimitError } from "./bytes/errors.js";
export { SparseStore, type SparseStoreOptions } from "./bytes/sparse-store.js";
export type { CodecName, Codecs, Unpack } from "./codec/codec.js";
export { loadCodecs } from "./codec/load.js";
export type { Dump } from "./dump.js";
export type { DumpCpu, DumpFact, DumpFormat, DumpMachine, DumpRoot, LongMode } from "./formats/content.js";
export { PC_MACHINES, type PcHole, type PcMachine } from "./formats/pc-hole.js";
export type { RawOptions, RawRange } from "./formats/raw.js";
export { hiddenUsersRoot } from "./isolated-root.js";
export { kernelLayout, kernelLayoutAt, regionNamer } from "./kernel-layout.js";
export {
  type KernelMemory,
  type KernelRegion,
  type KernelRegionOptions,
  kernelRegions,
} from "./linux/kernel-regions.js";
export { listAsync } from "./listing.js";
export type { DumpMemory } from "./memory/dump-memory.js";
export type { Extent, Lacking, MemoryRange, Presence } from "./memory/presence.js";
export { type OpenDumpOptions, type OpenSourceOptions, openDump } from "./open.js";
export {
  type DumpRegisters,
  type RegisterName,
  type RegisterOverrides,
  registersFromDump,
  UnknownRootError,
} from "./registers.js";
export { expressionPattern } from "./search/expression-pattern.js";
export { hexPattern, type TextOptions, textPattern } from "./search/fixed-pattern.js";
export {
  type MemoryHit,
  MemorySearch,
  type SearchedMemory,
  type Stretch,
  type Unsearched,
} from "./search/memory-search.js";
export { type BytePattern, type Match, PatternError } from "./search/pattern.js";
export { type FoundSpace, type SpaceKind, SpaceScan, type SpaceScanOptions } from "./space-scan.js";
export { halfAt } from "./tables/isolation.js";
export type { Mapped } from "./tables/table-reader.js";
export type { InspectedMode } from "./tables/table-shape.js";
export { type KernelRoot, kernelRelease, kernelRoot } from "./vmcoreinfo.js";
export { type FoundVmcoreinfo, VmcoreinfoScan } from "./vmcoreinfo-scan.js";
export { convertDump, type KeptRoot, type ReduceOptions, reduceDump, type WrittenFormat } from "./write/convert.js";
export type { Chunk, WrittenDump } from "./write/written-dump.js";
