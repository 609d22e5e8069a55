/** Compiling the core from wherever a caller has it. */
import { tagOf } from "../checks.js";
import { LoadError } from "../errors.js";
import type { WasmModule, WebResponse, WebUrl } from "../platform.js";

/** Where the Wasm may come from: a compiled module, its bytes, a response, or a URL, in Node also a `file:` URL. */
export type WasmSource =
  | WasmModule
  | ArrayBuffer
  | ArrayBufferView
  | WebResponse
  | PromiseLike<WebResponse>
  | WebUrl
  | string;

/**
 * Rejects with LoadError for a response that is none and where the platform does not allow Wasm to be compiled, with what
 * `fetch` and the compiler say of a bad URL or bad bytes.
 */
export async function compile(source: WasmSource): Promise<WebAssembly.Module> {
  if (isModule(source)) return source;
  if (isBytes(source)) return explained(() => WebAssembly.compile(source as BufferSource));
  const isUrl = typeof source === "string" || tagOf(source) === "[object URL]";
  if (isUrl && `${source as string | URL}`.startsWith("file:")) {
    const bytes = await fileBytes(source as string | URL);
    if (bytes !== undefined) return explained(() => WebAssembly.compile(bytes));
  }
  const response = await (isUrl ? fetch(source as string | URL) : (source as Response | PromiseLike<Response>));
  if (typeof response?.arrayBuffer !== "function") throw noSource();
  if (!response.ok) throw new LoadError(`${response.url}: expected the core's Wasm, found status ${response.status}`);
  // Compiled while it arrives, where the server calls it Wasm in just these words: nothing else may be streamed.
  if (response.headers.get("content-type") === "application/wasm") {
    return explained(() => WebAssembly.compileStreaming(response));
  }
  const bytes = await response.arrayBuffer();
  return explained(() => WebAssembly.compile(bytes));
}

/** The same without waiting, of a module or bytes. */
export function compileSync(source: WebAssembly.Module | ArrayBuffer | ArrayBufferView): WebAssembly.Module {
  if (isModule(source)) return source;
  if (!isBytes(source)) throw noSource();
  try {
    return new WebAssembly.Module(source as BufferSource);
  } catch (error) {
    throw forbidden(error) ?? error;
  }
}

/** By its tag: a module may come from another realm. */
export function isModule(source: unknown): source is WebAssembly.Module {
  return tagOf(source) === "[object WebAssembly.Module]";
}

/** The likeliest slip is to give the options first. */
function noSource(): LoadError {
  return new LoadError(
    "expected the core's Wasm first: a module, bytes, a response or a URL, or undefined for the package's own; " +
      "options are the second argument, as in load(undefined, { memory, region })",
  );
}

function isBytes(source: unknown): source is ArrayBuffer | ArrayBufferView {
  return tagOf(source) === "[object ArrayBuffer]" || ArrayBuffer.isView(source);
}

async function explained(compiling: () => Promise<WebAssembly.Module>): Promise<WebAssembly.Module> {
  try {
    return await compiling();
  } catch (error) {
    throw forbidden(error) ?? error;
  }
}

/** How engines say that a policy forbids it: V8 (pages, workerd), SpiderMonkey, JavaScriptCore. */
const POLICY = /disallowed by embedder|content security policy|blocked by csp|unsafe-eval/i;

/** The error to be thrown instead where not the bytes but the platform is the reason. */
function forbidden(error: unknown): LoadError | undefined {
  const absent = typeof WebAssembly === "undefined";
  if (!absent && !(error instanceof Error && POLICY.test(error.message))) return undefined;
  const reason = absent
    ? "there is no WebAssembly here"
    : `this platform does not compile WebAssembly: ${(error as Error).message}`;
  const ways =
    "allow 'wasm-unsafe-eval' in its policy, pass a compiled module, or use x86-paging/reference, which needs none";
  return new LoadError(`${reason} (${ways})`, { cause: error });
}

/** What Node has beyond `fetch`, which does not take such URLs there; undefined elsewhere. */
async function fileBytes(url: string | URL): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const { process } = globalThis as {
    process?: {
      getBuiltinModule?(name: "node:fs/promises"): { readFile(path: URL): Promise<Uint8Array<ArrayBuffer>> };
    };
  };
  return process?.getBuiltinModule?.("node:fs/promises").readFile(new URL(url));
}
