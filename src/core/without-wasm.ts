/** What the core offers beside loading it. */

export * from "./access/index.js";
export {
  decodeVirtualizationException,
  encodeVirtualizationException,
  type VirtualizationException,
  virtualizationException,
} from "./attributes/virtualization-exception.js";
export type { WasmSource } from "./compile.js";
export { Core, type CoreOptions } from "./core.js";
export type { Region } from "./linear/linear-memory.js";
export { CoreMemory, type CoreMemoryConfig } from "./memory/memory.js";
export type { CoreSlotConfig } from "./memory/slot-config.js";
export type { GuestText } from "./memory/text.js";
export { BatchBuffer, type BatchKernel } from "./space/batch.js";
export { LeafColumnListing, LeafColumns, LeafFlag } from "./space/leaf-columns.js";
export { ResultFlag, ResultLine } from "./space/result-line.js";
export { CoreSpace, type GuestRegisters } from "./space/space.js";
export type { TlbStatistics } from "./space/space-tlb.js";
