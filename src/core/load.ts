/** Loading the core. Nothing is compiled before one of these is called. */
import { tagOf } from "../checks.js";
import { LoadError } from "../errors.js";
import { Core, type CoreOptions } from "./core.js";
import { WASM_BASE64 } from "./wasm/wasm.generated.js";

/** Where the Wasm may come from: default is the copy inside this package. */
export type WasmSource = WebAssembly.Module | BufferSource | Response | PromiseLike<Response> | URL | string;

/**
 * Compiles and instantiates the core. `source` may be a compiled module, its bytes, a Response, or a URL to fetch.
 * Rejects with LoadError for a response that is none, with what `fetch` and the compiler say of a bad URL or bad bytes.
 */
export async function load(source?: WasmSource, options?: CoreOptions): Promise<Core> {
  return new Core(await compile(source), options);
}

/** The same without waiting; from the package's own copy, a module or bytes. */
export function loadSync(source?: WebAssembly.Module | BufferSource, options?: CoreOptions): Core {
  if (isModule(source)) return new Core(source, options);
  return new Core(new WebAssembly.Module((source as BufferSource | undefined) ?? wasmBytes()), options);
}

/** The Wasm module that the package carries. */
export function wasmBytes(): Uint8Array<ArrayBuffer> {
  const text = atob(WASM_BASE64);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

async function compile(source: WasmSource | undefined): Promise<WebAssembly.Module> {
  if (source === undefined) return WebAssembly.compile(wasmBytes());
  if (isModule(source)) return source;
  if (tagOf(source) === "[object ArrayBuffer]" || ArrayBuffer.isView(source)) {
    return WebAssembly.compile(source as BufferSource);
  }
  const isUrl = typeof source === "string" || tagOf(source) === "[object URL]";
  const response = await (isUrl ? fetch(source as string | URL) : (source as Response | PromiseLike<Response>));
  if (!response.ok) throw new LoadError(`${response.url}: expected the core's Wasm, found status ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** By its tag: a module may come from another realm. */
function isModule(source: unknown): source is WebAssembly.Module {
  return tagOf(source) === "[object WebAssembly.Module]";
}
