/** The Wasm core as the rest of the package imports it. */
export { BatchBuffer, type BatchKernel } from "./batch.js";
export { Core, type CoreOptions } from "./core.js";
export type { Region } from "./linear-memory.js";
export { load, loadSync, type WasmSource, wasmBytes } from "./load.js";
export { CoreMemory, type CoreMemoryConfig, type CoreSlotConfig } from "./memory.js";
export { CoreSpace, decodeFault } from "./space.js";
