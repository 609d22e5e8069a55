/** Loading the core from the package's own copy, or from elsewhere. Nothing is compiled before one of these is called. */
import type { WasmModule } from "../platform.js";
import { compile, compileSync, type WasmSource } from "./compile.js";
import { Core, type CoreOptions } from "./core.js";
import { WASM_BASE64 } from "./wasm/wasm.generated.js";

/** The package's own copy, once it is compiled: further cores share the code that the engine has made of it. */
let own: WasmModule | undefined;

/**
 * Compiles and instantiates the core. `source` may be a compiled module, its bytes, a Response, or a URL to fetch;
 * default is the copy inside this package.
 * Rejects with LoadError for a response that is none and where the platform forbids to compile, with what `fetch` and the
 * compiler say of a bad URL or bad bytes.
 */
export async function load(source?: WasmSource, options?: CoreOptions): Promise<Core> {
  if (source !== undefined) return new Core(await compile(source), options);
  own ??= await compile(wasmBytes());
  return new Core(own, options);
}

/** The same without waiting; from the package's own copy, a module or bytes. */
export function loadSync(source?: WasmModule | ArrayBuffer | ArrayBufferView, options?: CoreOptions): Core {
  if (source !== undefined) return new Core(compileSync(source), options);
  own ??= compileSync(wasmBytes());
  return new Core(own, options);
}

/** The Wasm module that the package carries. */
export function wasmBytes(): Uint8Array & { readonly buffer: ArrayBuffer } {
  const text = atob(WASM_BASE64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
