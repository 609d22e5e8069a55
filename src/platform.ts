/**
 * Names of the platform that the types of this package mention, for projects without the library "DOM". They are empty, and
 * where such a library has them, its own declarations are merged with these and nothing changes. Whoever needs one imports
 * the type from here, so that the declarations come with it.
 */
declare global {
  interface Blob {}
  interface Response {}
  interface URL {}
  interface AbortSignal {}
  namespace WebAssembly {
    interface Module {}
    interface Memory {}
  }
}

export type WasmModule = WebAssembly.Module;
export type WasmMemory = WebAssembly.Memory;
export type WebResponse = Response;
export type WebUrl = URL;
export type WebBlob = Blob;
export type WebAbortSignal = AbortSignal;
