/** The Wasm core as the rest of the package imports it. */
export { load, loadSync, wasmBytes } from "./load.js";
export * from "./without-wasm.js";
