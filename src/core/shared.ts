/**
 * x86-paging/shared: the core over a shared memory, for emulators whose vCPUs run in workers. The Wasm is a build of its own,
 * which imports a shared memory; it is a file of the package, not inlined.
 */
import { checkOptions } from "../checks.js";
import type { WasmMemory } from "../platform.js";
import { compile, type WasmSource } from "./compile.js";
import { Core } from "./core.js";
import type { Region } from "./linear/linear-memory.js";

export { Access, Status } from "../abi/index.js";
export type * from "../api.js";
export * from "../errors.js";
export { decodeFault } from "./access/fault-number.js";
export { CoreMemory, type CoreMemoryConfig } from "./memory/memory.js";
export type { CoreSlotConfig } from "./memory/slot-config.js";
export { BatchBuffer, type BatchKernel } from "./space/batch.js";
export { ResultFlag, ResultLine } from "./space/result-line.js";
export { CoreSpace } from "./space/space.js";
export { Core, type Region, type WasmSource };

/** What a thread's core lives in. */
export interface SharedOptions {
  /** A shared memory of 32 bits: `new WebAssembly.Memory({ initial, maximum, shared: true })`. */
  readonly memory: WasmMemory;
  /**
   * The part of it that this thread's core keeps its records in, in bytes, both multiples of 16. Each thread has its own: one
   * thread cannot see what another was given, so nothing checks that.
   */
  readonly region: Region;
}

/**
 * A core for this thread. Its spaces and memories are this thread's own; RAM and the tables in it are shared, and accessed and
 * dirty flags are set by atomic compare-and-exchange, as processors do. `source` as of `load`: where many threads start, one
 * compiles and posts the module to the others. Default: the file of the package. Rejects with LoadError and ConfigError as
 * `load` does.
 */
export async function loadShared(source: WasmSource | undefined, options: SharedOptions): Promise<Core> {
  checkOptions(options, { memory: true, region: true }, "the options of the shared core");
  const module = await compile(source ?? new URL("../core.shared.wasm", import.meta.url));
  return new Core(module, { memory: options.memory, region: options.region });
}
