/** x86-paging where Wasm comes as a module by import and cannot be compiled from bytes (Cloudflare's workerd). */
import { compile, compileSync, type WasmSource } from "./core/compile.js";
import { Core, type CoreOptions } from "./core/core.js";
import packaged from "./core.wasm";
import type { WasmModule } from "./platform.js";

export { Access, Status } from "./abi/index.js";
export type * from "./api.js";
export * from "./core/without-wasm.js";
export * from "./errors.js";
export { mergeRuns, type Run } from "./runs.js";

/** Instantiates the core; `source` as everywhere, default is the package's own module. */
export async function load(source?: WasmSource, options?: CoreOptions): Promise<Core> {
  return new Core(await compile(source ?? packaged), options);
}

/** The same without waiting. */
export function loadSync(source?: WasmModule, options?: CoreOptions): Core {
  return new Core(compileSync(source ?? packaged), options);
}
