/** Compiling the core from wherever a caller has it. */
import { tagOf } from "../checks.js";
import { LoadError } from "../errors.js";

/** Where the Wasm may come from. */
export type WasmSource = WebAssembly.Module | BufferSource | Response | PromiseLike<Response> | URL | string;

/** Rejects with LoadError for a response that is none, with what `fetch` and the compiler say of a bad URL or bad bytes. */
export async function compile(source: WasmSource): Promise<WebAssembly.Module> {
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
export function isModule(source: unknown): source is WebAssembly.Module {
  return tagOf(source) === "[object WebAssembly.Module]";
}
