/** Loading the core from where the caller has its Wasm: nothing of it is in this module. */
import type { WasmModule } from "../platform.js";
import { compile, compileSync, type WasmSource } from "./compile.js";
import { Core, type CoreOptions } from "./core.js";

/**
 * Compiles and instantiates the core. `source` is `x86-paging/core.wasm` as a compiled module, its bytes, a Response, or a URL to
 * fetch. Rejects with LoadError for a response that is none and where the platform forbids to compile, with what `fetch` and
 * the compiler say of a bad URL or bad bytes.
 */
export async function load(source: WasmSource, options?: CoreOptions): Promise<Core> {
  return new Core(await compile(source), options);
}

/** The same without waiting, from a module or bytes. */
export function loadSync(source: WasmModule | ArrayBuffer | ArrayBufferView, options?: CoreOptions): Core {
  return new Core(compileSync(source), options);
}
